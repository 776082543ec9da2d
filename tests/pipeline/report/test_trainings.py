"""Pages of runs without traces."""

import json

import pytest

from pipeline.errors import InputError
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from pipeline.training.history import write_history
from tests.pipeline.export.runs import trace, write_run
from tests.pipeline.report.sites import made, values

MEASURED = [
    {"step": 10, "loss": 1.5, "reward": None, "chosen": True},
    {"step": 20, "loss": 1.25, "reward": 2.0, "chosen": False},
]


def folder_of(path, job):
    folder = Folder(str(path))
    claim_owner(folder, Owner(job))
    return folder


@pytest.mark.parametrize(
    ("job", "card"), [("train-guide", "guide/card.json"), ("distill", "student/card.json")]
)
def test_a_training_has_curves_checkpoints_and_its_card(tmp_path, job, card):
    folder = folder_of(tmp_path / "run", job)
    write_history(folder, {"measurements": MEASURED})
    facts = made(tmp_path / "out", folder.uri).facts
    assert facts["summary"] == f"nabla {job}, stopped."
    assert facts["card"] is None
    folder.write(card, json.dumps({"chosen_step": 20}).encode())
    made(tmp_path / "out", folder.uri)
    facts = values(tmp_path / "out" / "run.js")
    assert facts["summary"] == f"nabla {job}, done, step 20 was chosen."
    assert facts["curves"] == {
        "loss": {"loss": [[10, 1.5], [20, 1.25]]}, "reward": {"reward": [[10, None], [20, 2.0]]}
    }  # fmt: skip
    assert facts["tables"][0]["header"] == ["step", "loss", "reward", "chosen"]
    assert facts["tables"][0]["rows"][0] == [10, 1.5, None, "True"]
    assert facts["card"] == {"chosen_step": 20}


def test_rounds_and_their_steps_are_listed(tmp_path):
    folder = folder_of(tmp_path / "run", "improve")
    figures = [{"number": n, "reward": float(n), "reward_hacked": False} for n in range(2)]
    folder.write("rounds.json", json.dumps({"rounds": figures, "chosen": 1}).encode())
    facts = made(tmp_path / "out", folder.uri).facts
    assert "1 rounds ended" in facts["summary"]
    assert facts["curves"] == {"reward": {"reward": [[0, 0.0], [1, 1.0]]}}


def test_the_report_of_the_duality_stage_joins(tmp_path):
    folder = folder_of(tmp_path / "run", "duality")
    with pytest.raises(InputError, match=r"has no report\.html yet"):
        made(tmp_path / "out", folder.uri)
    folder.write("report.html", b"<h1>Duality</h1>")
    assert made(tmp_path / "out", folder.uri).facts["frame"] == "duality.html"
    assert (tmp_path / "out" / "duality.html").read_bytes() == b"<h1>Duality</h1>"


def test_trainings_are_compared_with_nothing(tmp_path):
    guide = folder_of(tmp_path / "guide", "train-guide").uri
    run = write_run(tmp_path / "run", [trace("a")])
    with pytest.raises(InputError, match="only runs of traces are compared"):
        made(tmp_path / "out", run, guide)
