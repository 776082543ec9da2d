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
    assert [row[0] for row in facts["tables"][0]["rows"]] == [10, "20 (chosen)"]
    assert facts["tables"][0]["rows"][0] == [10, 1.5, None, "True"]
    assert facts["card"] == {"chosen_step": 20}
    folder.write(card, b"{")
    outcome = made(tmp_path / "out", folder.uri)
    assert (outcome.facts["card"], outcome.facts["damaged"]) == (None, card)
    assert outcome.warnings == [f"{card} is damaged and left out"]


FIGURES = {
    "answers": 8,
    "right": 4,
    "auc": 0.75,
    "auc_within_prompts": None,
    "brier": 0.2,
    "ece": 0.1,
}
BINS = [{"count": 3, "predicted": 0.25, "right": 0.5}]


def judged(auc):
    fresh = {**FIGURES, "auc": auc, "bins": BINS, "best_of": {"1": 0.5, "8": auc, "16": 1.0}}
    given = {"answers (held out)": {**FIGURES, "bins": BINS}}
    return {"fresh": fresh, "given": given, "searched": None}


def test_a_judge_stands_beside_the_one_before(tmp_path):
    folder = folder_of(tmp_path / "run", "train-judge")
    measured = [
        {"step": step, "loss": 1 / step, "fresh_auc": auc, "report": judged(auc)}
        for step, auc in ((4, 0.6), (8, 0.9))
    ]
    baseline = {"fresh_auc": 0.5, "report": judged(0.5)}
    write_history(folder, {"baseline": baseline, "measurements": measured})
    facts = made(tmp_path / "out", folder.uri).facts
    assert facts["summary"] == "nabla train-judge, stopped."
    checkpoints, answers, calibration = facts["tables"]
    assert checkpoints["header"] == ["step", "fresh_auc", "loss"]
    assert checkpoints["rows"] == [["before training", 0.5, None], [4, 0.6, 0.25], [8, 0.9, 0.125]]
    assert [row[:2] + row[4:5] for row in answers["rows"]] == [
        ["step 8", "fresh samples", 0.9], ["step 8", "answers (held out)", 0.75],
        ["before training", "fresh samples", 0.5], ["before training", "answers (held out)", 0.75],
    ]  # fmt: skip
    assert calibration["rows"][0] == ["step 8", 3, 0.25, 0.5]
    assert facts["best_of"] == {
        "step 8": [[1, 0.5], [8, 0.9], [16, 1.0]],
        "before training": [[1, 0.5], [8, 0.5], [16, 1.0]]
    }  # fmt: skip
    folder.write("judge/card.json", json.dumps({"chosen_step": 4}).encode())
    made(tmp_path / "out", folder.uri)
    facts = values(tmp_path / "out" / "run.js")
    assert facts["summary"] == "nabla train-judge, done, step 4 was chosen."
    assert facts["tables"][1]["rows"][0][0] == "step 4"
    # The first judge of an LM has none before it.
    write_history(folder, {"baseline": {}, "measurements": measured[:1]})
    facts = made(tmp_path / "out", folder.uri).facts
    assert [table["rows"][0][0] for table in facts["tables"]] == ["4 (chosen)"] + 2 * ["step 4"]
    assert list(facts["best_of"]) == ["step 4"]


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
