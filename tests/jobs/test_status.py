"""What `nabla status` says of the folder of each job, without a process that made it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import status
from nabla_core.errors import ModelError
from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.job import plan as counterfactuals_plan
from pipeline.errors import ResumeError, RunError
from pipeline.export.config import Filters, NearDuplicates, Split
from pipeline.improve.config import ImproveConfig
from pipeline.run.plan import open_store
from pipeline.store.checks.config_check import check_config
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from pipeline.store.last_error import error_kept
from pipeline.store.lease import Lease
from pipeline.store.uris import below
from pipeline.training.history import write_history
from pipeline.training.progress import Progress, write_progress
from tests.pipeline.export.runs import exported, trace, write_run
from tests.pipeline.rows import item, row, store_in

ROOT = Path(__file__).parents[2]
MEASURED = {"step": 20, "loss": 1.5, "top1": 0.25, "chance": 0.1, "reward": 2.0, "calls": None}
MEASURED |= {"accuracy": None}


@pytest.fixture(params=["disk", "object store"])
def uri(request, tmp_path):
    """Where a run folder may be."""
    return str(tmp_path) if request.param == "disk" else f"memory://{tmp_path}"


@pytest.fixture
def shown(capsys):
    """The lines of `nabla status`; the folder is left out."""

    def show(uri: str) -> list[str]:
        assert status.main([f"run_dir={uri}"]) == 0
        return capsys.readouterr().out.replace(uri, "RUN").splitlines()

    return show


def traces(uri, count, *, dead=0):
    """A run of 40 rows of which so many are committed, every other of them right."""
    store = store_in(uri)
    claim_owner(store.folder, Owner("generate", "traces/5"))
    store.write_expected(40)
    rows = [row(item(f"p{n}")) for n in range(count)]
    rows = [each | {"base_correct": False, "correct": n % 2 == 0} for n, each in enumerate(rows)]
    rows += [row(item(f"dead{n}"), error="ValueError: no") for n in range(dead)]
    store.commit([each | {"created_at": at(2 * n)} for n, each in enumerate(rows)])
    return store


def at(seconds):
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def test_rows_are_shown_with_rewards_accuracy_errors_rate_and_time_left(uri, shown):
    traces(uri, 20, dead=1)
    assert shown(uri) == [
        "RUN: stopped",
        "committed  21 of 40 rows (52.5%)",
        "dead       1 (1 ValueError)",
        "reward     0.3000 -> 0.4000 (+0.1000)",
        "accuracy   0.0000 -> 0.5000 (+0.5000)",
        "rate       0.5 rows/s, 0:38 left",
    ]


def test_the_accuracy_of_fewer_than_20_rows_is_not_shown_while_the_run_goes_on(tmp_path, shown):
    store = traces(str(tmp_path), 19)
    lease = Lease(store.folder, 30.0, pytest.fail)
    first, *lines = shown(str(tmp_path))
    lease.release()
    assert first.startswith(f"RUN: running by process {os.getpid()} on ")
    assert not [line for line in lines if line.startswith("accuracy")]
    assert [line for line in lines if line.startswith("reward")]


def test_a_row_that_was_made_twice_counts_once(tmp_path, shown):
    store = traces(str(tmp_path), 20)
    again = row(item("p0")) | {"created_at": at(0), "base_correct": False, "correct": True}
    dead = row(item("p1"), error="ValueError: no") | {"created_at": at(2)}
    store.commit([again, dead])
    lines = shown(str(tmp_path))
    assert lines[1] == "committed  20 of 40 rows (50.0%)"
    assert "reward     0.3000 -> 0.4000 (+0.1000)" in lines
    assert lines[-1].startswith("rate       0.5 rows/s")


def test_counterfactuals_are_shown_with_their_score(uri, shown):
    store = open_store(counterfactuals_plan(CounterfactualsConfig(run_dir=uri)))
    claim_owner(store.folder, Owner("counterfactuals", "counterfactuals/4"))
    store.write_expected(4)
    store.commit([row(item(f"p{n}")) | {"score": float(n)} for n in range(3)])
    assert shown(uri)[:3] == [
        "RUN: stopped",
        "committed  3 of 4 rows (75.0%)",
        "score      1.0000",
    ]


def test_a_training_is_shown_with_its_steps_and_last_measurement(uri, shown):
    folder = Folder(uri)
    claim_owner(folder, Owner("train-guide"))
    assert shown(uri) == ["RUN: stopped"]
    write_progress(folder, Progress(step=25, steps=100, seconds=2.0))
    write_history(folder, {"measurements": [MEASURED | {"step": 10}, MEASURED]})
    assert shown(uri) == [
        "RUN: stopped",
        "steps      25 of 100 (25.0%)",
        "rate       2.00 s each, 2:30 left",
        "step 20  loss 1.500  top1 0.250  chance 0.100  reward 2.000",
    ]
    folder.write("failed.json", json.dumps({"kind": "ModelError", "message": "no head"}).encode())
    assert shown(uri)[-1] == "failed     no head"
    folder.write("guide/card.json", b"{}")
    assert shown(uri)[0] == "RUN: done"


def test_what_ended_a_run_is_shown_until_the_next_one_starts(uri, shown):
    store = traces(uri, 20)
    with pytest.raises(RunError), error_kept(store.folder):
        raise RunError("no GPU is left\non any node")
    assert shown(uri)[-2:] == ["failed     no GPU is left", "           on any node"]
    # Another command's settings say nothing of this run.
    with pytest.raises(ResumeError), error_kept(store.folder):
        raise ResumeError("other settings")
    assert not [line for line in shown(uri) if line.startswith("failed")]


def test_a_run_that_ended_before_its_first_row_says_why(uri, shown):
    folder = Folder(uri)
    claim_owner(folder, Owner("generate", "traces/5"))
    with pytest.raises(ModelError), error_kept(folder):
        raise ModelError("models/lm: no such folder")
    assert shown(uri) == ["RUN: stopped", "failed     models/lm: no such folder"]


def test_an_export_is_shown_with_its_format_filters_and_rows(tmp_path, shown):
    rows = [trace(f"p{n}", reward=float(n), question=f"{n}+1=") for n in range(4)]
    run = write_run(tmp_path / "run", rows)
    near = NearDuplicates(threshold=None, shingle=2)
    filters = Filters(min_reward=1.0, near_duplicates=near)
    exported(tmp_path / "out", run, filters=filters, split=Split(held_out=0.5))
    lines = shown(str(tmp_path / "out"))
    counts = [int(line.split()[1]) for line in lines if line.startswith("rows")]
    assert sum(counts) == 3
    assert lines == [
        "RUN: done",
        "format     sft, prompt_completion",
        "made of    run",
        "filter     min_reward: 1.0",
        "filter     near_duplicates.shingle: 2",
        "read       4 traces",
        "dropped    1: reward below min_reward",
        "kept       3 traces",
        f"rows       {counts[0]} in train",
        f"rows       {counts[1]} in test",
    ]
    (tmp_path / "out" / "_SUCCESS").unlink()
    assert shown(str(tmp_path / "out")) == ["RUN: stopped", *lines[1:5]]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"rounds": [1]}'])
def test_damaged_files_beside_the_rows_are_as_missing_ones(tmp_path, shown, content):
    files = {
        "train-guide": ("progress.json", "history.json", "failed.json", "last_error.json"),
        "improve": ("rounds.json", "config.yaml"),
        "duality": ("progress.json",),
    }
    expected = {
        "train-guide": ["RUN: stopped"],
        "improve": ["RUN: unfinished", "rounds     0"],
        "duality": ["RUN: unfinished"],
    }
    for job, names in files.items():
        folder = Folder(str(tmp_path / job))
        claim_owner(folder, Owner(job))
        for name in names:
            folder.write(name, content)
        assert shown(folder.uri) == expected[job]


def test_rounds_are_shown_with_their_figures_and_the_step_that_goes_on(tmp_path, shown):
    uri = str(tmp_path)
    folder = Folder(uri)
    check_config(folder, ImproveConfig(run_dir=uri, rounds=2), Owner("improve"))
    traces(below(uri, "round-0/eval"), 20)
    assert shown(uri)[:4] == [
        "RUN: unfinished",
        "rounds     0 of 2",
        "",
        "RUN/round-0/eval: stopped",
    ]
    figures = [
        {"number": n, "reward": 1.0 + n, "accuracy": 0.5 + n / 10, "reward_hacked": False}
        for n in range(2)
    ]
    folder.write("rounds.json", json.dumps({"rounds": figures, "chosen": 1}).encode())
    traces(below(uri, "round-1/traces"), 3)
    lines = shown(uri)
    assert lines[:6] == [
        "RUN: unfinished",
        "rounds     1 of 2",
        "round 0    accuracy 0.5000  reward 1.0000",
        "round 1    accuracy 0.6000  reward 2.0000  <- chosen",
        "",
        "RUN/round-1/traces: stopped",
    ]
    assert lines[6] == "committed  3 of 40 rows (7.5%)"
    figures.append({**figures[0], "number": 2})
    folder.write("rounds.json", json.dumps({"rounds": figures, "chosen": 1}).encode())
    assert shown(uri)[0] == "RUN: done"


def test_the_duality_stage_is_shown_with_its_pieces(uri, shown):
    folder = Folder(uri)
    claim_owner(folder, Owner("duality"))
    assert shown(uri) == ["RUN: unfinished"]
    write_progress(folder, Progress(step=2, steps=3, seconds=10.0))
    pieces, rate = "pieces     2 of 3 (66.7%)", "rate       10.00 s each, 0:10 left"
    expected = ["RUN: unfinished", pieces, rate]
    assert shown(uri) == expected
    folder.write("results.parquet", b"")
    assert shown(uri) == expected
    write_progress(folder, Progress(step=3, steps=3, seconds=10.0))
    assert shown(uri)[0] == "RUN: done"


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert status.main([str(tmp_path)]) == 2
    assert f"{tmp_path} is no run folder" in capsys.readouterr().err


def test_neither_ray_nor_torch_is_imported(tmp_path):
    traces(str(tmp_path / "rows"), 2)
    claim_owner(Folder(str(tmp_path / "guide")), Owner("train-guide"))
    claim_owner(Folder(str(tmp_path / "improve")), Owner("improve"))
    claim_owner(Folder(str(tmp_path / "duality")), Owner("duality"))
    script = f"""
import sys
from jobs import status
for name in ("rows", "guide", "improve", "duality"):
    assert status.main([{str(tmp_path)!r} + "/" + name]) == 0
assert not {{"ray", "torch", "transformers"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
