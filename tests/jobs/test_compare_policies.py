"""Policies and comparisons: adapter folders as arms, a bucket as run folder, a kill half-way."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import fs
from transformers import AutoModelForCausalLM

from jobs import compare
from nabla_core.embedded.weights import folder
from pipeline.store.files import Folder
from tests.jobs.test_distill_submit import bucket  # noqa: F401 - a fixture
from tests.jobs.test_submit import ROOT, head, submit  # noqa: F401 - head is a fixture

CONFIG = ROOT / "configs" / "embedded.yaml"


def given(run_dir, *more):
    return [
        *("--config", str(CONFIG), f"run_dir={run_dir}", "prompts.limit=6"),
        *("bootstrap.resamples=200", "arms.greedy.decoding.method=greedy"),
        *("cluster.actors.min=1", "cluster.actors.max=1"),
        *more,
    ]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_an_adapter_folder_is_a_policy(cluster, tmp_path, capsys):
    peft = pytest.importorskip("peft", reason="peft is an optional package")
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder("lm"))
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    arms = [
        f"arms.policy.lm.path={tmp_path / 'adapter'}",
        "arms.policy.decoding.method=greedy",
        f"arms.policy guided.lm.path={tmp_path / 'adapter'}",
        "arms.policy guided.decoding.method=guided",
    ]
    assert compare.main(given(tmp_path / "run", *arms)) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(line) == ["greedy", "policy", "policy guided"]
    table = pq.read_table(tmp_path / "run" / "traces.parquet")
    said = {}
    for row in table.select(["arm", "prompt_id", "response"]).to_pylist():
        said.setdefault(row["arm"], {})[row["prompt_id"]] = row["response"]
    assert said["policy"] != said["greedy"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_submitted_comparison_writes_into_a_bucket_and_adds_an_arm(bucket, head, tmp_path):  # noqa: F811
    uri = f"s3://bucket/compare?{bucket}"
    arms = ["arms.sample.decoding.method=sample", "arms.sample.samples_per_prompt=2"]
    command = [sys.executable, "-m", "jobs.compare", *given(uri, *arms)]
    assert submit(head, "compare", *command) == ("SUCCEEDED", 0)
    remote = Folder(uri)
    summary = json.loads(remote.read("summary.json"))
    assert [arm["name"] for arm in summary["arms"]] == ["greedy", "sample"]
    assert remote.read("comparison.svg").startswith(b"<?xml")

    def written():
        found = remote.fs.get_file_info(fs.FileSelector(remote.path("arms/sample/data")))
        return {file.path: file.mtime for file in found}

    before = written()
    more = [*command, "arms.best.decoding.method=best_of_n"]
    assert submit(head, "more", *more) == ("SUCCEEDED", 0)
    assert written() == before
    summary = json.loads(remote.read("summary.json"))
    assert [arm["name"] for arm in summary["arms"]] == ["greedy", "sample", "best"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_comparison_that_is_killed_keeps_its_finished_arms(tmp_path):
    run = tmp_path / "run"
    slow = ["arms.slow.decoding.method=best_of_n", "arms.slow.decoding.best_of_n.n=64"]
    command = [sys.executable, "-m", "jobs.compare", *given(run, *slow, "prompts.limit=40")]
    done, begun = run / "arms/greedy/_SUCCESS", run / "arms/slow/config.yaml"
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while not begun.exists():
            assert process.poll() is None, "the comparison ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert done.exists()
    assert not (run / "summary.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (run / "arms/greedy").rglob("*.parquet")}
    assert before
    subprocess.run(command, cwd=ROOT, check=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    summary = json.loads((run / "summary.json").read_text())
    assert [(arm["name"], summary["prompts"]) for arm in summary["arms"]] == [
        ("greedy", 40),
        ("slow", 40),
    ]
