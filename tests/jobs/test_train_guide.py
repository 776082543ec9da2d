"""Guides trained on a real Ray, and a run with such a guide."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs import train_guide
from nabla_core import Prompt, drive, load_engines, nabla
from nabla_core.config import DTO, Decoding, NablaConfig
from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.generate.recipe import TraceRecipe
from pipeline.grading.graders import Verify
from pipeline.store.claims import holder
from pipeline.store.files import Folder
from pipeline.train_guide.evaluation import calibration
from pipeline.train_guide.training import train_step
from pipeline.training.progress import read_progress
from tests.jobs.test_generate import rows
from tests.pipeline.train_guide.exploration import settings, training_state

ROOT = Path(__file__).parents[2]


def test_settings_that_contradict_each_other_are_named(capsys):
    assert train_guide.main(["run_dir=x"]) == 2
    assert "data: not given" in capsys.readouterr().err
    for wrong, message in (
        ("workers.cpus=0", "workers.cpus must be above 0"),
        ("workers.max_failures=-2", "workers.max_failures must be at least -1"),
        ("reward.guide=embedded", "start.path names the model it starts from"),
        ("validation.nabla.proposals=left_to_right", "a head has no gradient"),
        ("optimise.clip=0", "optimise.clip must be above 0"),
    ):
        assert train_guide.main(["data.counterfactuals=[x]", wrong]) == 2
        assert message in capsys.readouterr().err
    ungraded = ["validation.metric=accuracy", "validation.verify.method=none"]
    assert train_guide.main(["data.counterfactuals=[x]", *ungraded]) == 2
    assert "validation.metric=accuracy needs a validation.verify.method" in capsys.readouterr().err
    guided = ["kind=gradient", "validation.nabla.rollout.beta=1"]
    assert train_guide.main(["data.counterfactuals=[x]", *guided]) == 2
    assert "validation.nabla.rollout.beta must be null: a gradient" in capsys.readouterr().err
    alone = [f"target.{name}=0" for name in ("within", "across", "scale")]
    assert train_guide.main(["data.counterfactuals=[x]", *alone, "target.score=1"]) == 2
    assert "target.score is of a guide's own reward" in capsys.readouterr().err
    assert train_guide.main(["data.traces=[x]", "target.mirror=1"]) == 2
    assert "target.mirror needs the LM's probabilities" in capsys.readouterr().err
    assert train_guide.main(["data.traces=[x]", "target.value=soft"]) == 2
    assert "a revision of a trace has one" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_workers_one_of_them_killed_learn_what_one_process_learns(
    plain, explored, tmp_path, cluster, capsys, monkeypatch
):
    run, token = tmp_path / "guide run", tmp_path / "token"
    start = shutil.copytree(plain.guide, tmp_path / "start")
    template = "{% for turn in messages %}{{ turn.content }}{% endfor %}"
    (start / "chat_template.jinja").write_text(template)
    more = Path("additional_chat_templates", "rag.jinja")
    (start / more).parent.mkdir()
    (start / more).write_text("{{ messages }}")
    alone = training_state(plain, explored, f"start.path={start}")
    losses = [train_step(alone) for _ in range(6)]
    token.touch()
    monkeypatch.setenv("NABLA_FAILPOINTS", f"guide step 2.|{token}")
    asked = settings(
        plain, explored, run, f"start.path={start}", "workers.count=2", "optimise.micro_batch=2"
    )
    assert train_guide.main(asked) == 0
    assert not token.exists()
    *lines, last = capsys.readouterr().out.splitlines()
    shown = [line.split()[:3] for line in lines if line.startswith("step")]
    assert shown == [["step", step, "loss"] for step in "246"]
    line = json.loads(last)
    card = json.loads((run / "guide" / "card.json").read_text())
    assert line["step"] == card["chosen_step"] in (2, 4, 6)
    history = json.loads((run / "history.json").read_text())["measurements"]
    assert [m["step"] for m in history] == [2, 4, read_progress(Folder(str(run))).step]
    assert [m["loss"] for m in history] == pytest.approx(losses[1::2], rel=1e-3)
    factor = calibration(alone)
    assert history[-1]["calibration"] == pytest.approx(factor, rel=1e-2)
    last = max((run / "train").glob("checkpoint_*/state.pt"))
    state = torch.load(last, weights_only=True)
    assert state["step"] == 6
    trained = {n: p for n, p in alone.trainee.model.named_parameters() if p.requires_grad}
    assert state["trained"].keys() == trained.keys()
    for name, weight in trained.items():
        torch.testing.assert_close(state["trained"][name], weight, rtol=1e-3, atol=1e-4)
    assert card["lm"]["revision"] == rows(explored)[0]["generation_revision"]
    assert card["data"]["sources"][0]["rows"] == 32
    trained_on = {e.name for e in alone.train}
    assert card["data"]["counterfactuals"] == sum(
        len(place.tokens) - 1
        for r in alone.mixture.records
        if r.name in trained_on
        for place in r.places
    )
    best = max(m["selection_score"] for m in history)
    assert card["metrics"]["selection_score"] == best

    # The folder is a guide for any job, and the same command has nothing left to do.
    assert (run / "guide" / more).read_text() == "{{ messages }}"
    weights = load_file(run / "guide" / "model.safetensors")
    assert weights["lm_head.weight"].any()
    assert train_guide.main(asked) == 0
    assert "was already there" in capsys.readouterr().out
    models = LM(str(plain.lm)), Reward(str(plain.judge), guide=str(run / "guide"))
    flow = nabla(Prompt.of("1+2*3", id="p"), NablaConfig(proposals="ranked"), max_tokens=8)
    (trace,) = drive([flow], load_engines(*models, Runtime(device="cpu")))
    assert trace.revisions
    assert trace.cost.rm_backward == 0
    recipe = TraceRecipe(
        lm=models[0],
        reward=models[1],
        decoding=Decoding(nabla=NablaConfig(dto=DTO(optimizer="adam"))),
        runtime=Runtime(device="cpu"),
        verify=Verify(method="none"),
        seed=0,
        config_hash="x",
    )
    with pytest.raises(ModelError, match="is a head"):
        recipe.open()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_damaged_files_of_a_training_are_written_again_or_one_error(
    plain, explored, tmp_path, cluster, capsys
):
    """The run was interrupted between its last checkpoint and the guide."""
    run = tmp_path / "run"
    asked = settings(plain, explored, run, "validation.every=6")
    assert train_guide.main(asked) == 0
    history = (run / "history.json").read_bytes()
    shutil.rmtree(run / "guide")
    (run / "history.json").write_bytes(history[:99])
    (run / "failed.json").write_bytes(b"\xff")
    assert train_guide.main(asked) == 0
    assert (run / "history.json").read_bytes() == history
    card = run / "guide" / "card.json"
    whole = card.read_bytes()
    card.write_bytes(whole[:99])
    assert train_guide.main(asked) == 2
    assert "card.json is damaged: delete it" in capsys.readouterr().err
    card.unlink()
    assert train_guide.main(asked) == 0
    assert card.read_bytes() == whole
    card.unlink()
    (state,) = (run / "train").glob("checkpoint_*/state.pt")
    saved = state.read_bytes()
    state.write_bytes(saved[: len(saved) // 2])
    assert train_guide.main(asked) == 2
    assert f"checkpoint {state.parent.name} is damaged" in capsys.readouterr().err
    state.write_bytes(saved)
    (run / "train" / "checkpoint_manager_snapshot.json").write_bytes(b"")
    assert train_guide.main(asked) == 2
    assert "the list of checkpoints, is damaged" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_second_training_in_the_folder_is_refused_while_the_first_lives(
    plain, explored, tmp_path, cluster, capsys, interruptible, monkeypatch
):
    run = tmp_path / "run"
    asked = settings(plain, explored, run, "optimise.steps=100000", "validation.every=1")
    output = tmp_path / "output"
    here = os.path.relpath(run, explored.parent)
    relative = (f"run_dir={here}", f"data.counterfactuals=[{explored.name}]")
    command = [sys.executable, "-m", "jobs.train_guide", *asked, *relative]
    with output.open("w") as sink:
        first = subprocess.Popen(
            [*command, f"workers.address={cluster}"],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=explored.parent,
        )
        try:
            while not (run / "history.json").exists():  # Ray Train is at work
                assert first.poll() is None, output.read_text()
                time.sleep(0.2)
            before = (run / "config.yaml").read_bytes()
            monkeypatch.chdir(explored.parent)
            assert train_guide.main([*asked, *relative]) == 2
            assert f"is held by process {first.pid} on " in capsys.readouterr().err
            assert (run / "config.yaml").read_bytes() == before
            assert first.poll() is None
            first.send_signal(signal.SIGINT)
            assert first.wait(timeout=60) == 130, output.read_text()
        finally:
            first.kill()
            first.wait()
    assert "the same command continues" in output.read_text()
    assert holder(Folder(str(run))) is None
    assert not (run / "guide").exists()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_another_lms_counterfactuals_end_the_job(
    plain, grouped, explored, tmp_path, cluster, capsys
):
    with pytest.raises(ModelError, match="no such folder"):
        training_state(plain, explored, f"lm.path={plain.judge.parent / 'other'}")
    others = [
        *(f"lm.path={grouped.lm}", f"reward.judge={grouped.judge}"),
        *(f"start.path={grouped.guide}", "reward.min_coverage=0.9"),
    ]
    # Of two workers either may find it first; neither is left waiting for the other.
    asked = settings(plain, explored, tmp_path / "run", *others, "workers.count=2")
    assert train_guide.main(asked) == 2
    assert "made with another LM or tokenizer" in capsys.readouterr().err


def test_workers_for_which_there_is_no_room_are_refused(cluster, plain, explored, tmp_path, capsys):
    """Ray Train would wait for another machine to join, without end."""
    assert train_guide.main(settings(plain, explored, tmp_path / "run", "workers.gpu=true")) == 2
    assert "needs 1 GPU, and Ray has 0 here" in capsys.readouterr().err
    assert train_guide.main(settings(plain, explored, tmp_path / "run", "workers.count=3")) == 2
    assert "needs 3 CPU, and Ray has 2 here" in capsys.readouterr().err


def test_folders_without_data_are_refused_before_anything_starts(plain, explored, tmp_path, capsys):
    for wrong, message in (
        (f"data.counterfactuals=[{tmp_path}]", "is no finished run folder of counterfactuals"),
        (f"data.traces=[{explored}]", "holds counterfactuals/4, not traces"),
    ):
        assert train_guide.main(settings(plain, explored, tmp_path / "run", wrong)) == 2
        assert message in capsys.readouterr().err
    missing = f"validation.prompts.path={tmp_path}/none.jsonl"
    assert train_guide.main(settings(plain, explored, tmp_path / "run", missing)) == 2
    assert "none.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "run" / "train").exists()
