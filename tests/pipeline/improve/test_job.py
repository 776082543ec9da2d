"""What each step of a round runs with, and what a round leaves (`replaced_steps`)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import load
from pipeline.errors import RunError
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.improve.job import chosen_settings
from pipeline.improve.yielded import Yielded
from pipeline.run.plan import RunOutcome
from tests.pipeline.improve.replaced_steps import (
    ALL,
    FIRST,
    JUDGED,
    SECOND,
    Steps,
    run_rounds,
    short,
)
from tests.pipeline.improve.test_rounds import round_


def test_each_round_goes_on_with_the_guide_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = {"round-0/eval": (1.0, 0.0), "round-1/eval": (2.0, 1.0), "round-2/eval": (3.0, 1.0)}
    steps = Steps(results)
    improved = run_rounds(tmp_path, monkeypatch, steps)
    lm = "embedded"
    assert short(steps, tmp_path) == [
        ("round-0/eval-greedy", lm, None),
        ("round-0/eval", lm, None),
        ("round-1/traces", lm, None),
        ("round-1/counterfactuals", lm, None),
        ("round-1/guide", lm, "judge"),
        ("round-0/validation-greedy", lm, None),
        ("round-1/validation-search", lm, FIRST),
        ("round-1/eval", lm, FIRST),
        ("round-2/traces", lm, FIRST),
        ("round-2/counterfactuals", lm, FIRST),
        ("round-2/guide", lm, FIRST),
        ("round-2/validation-search", lm, SECOND),
        ("round-2/eval", lm, SECOND),
    ]
    assert improved.stop_reason == "completed"
    assert [r.top1 for r in improved.rounds] == [0.1, 0.5, 0.5]
    assert [r.counterfactuals for r in improved.rounds] == [0, 7, 7]
    run = str(tmp_path / "run")
    assert steps.settings[f"{run}/round-2/guide"].data.counterfactuals == (
        f"{run}/round-1/counterfactuals",
        f"{run}/round-2/counterfactuals",
    )
    figures = json.loads((tmp_path / "run" / "rounds.json").read_text())
    assert figures["rounds"][1]["accuracy_gain"] == [1.0, 1.0, 1.0]
    # The rounds are equally accurate and take as many calls: the first one is chosen.
    assert figures["chosen"] == improved.chosen.number == 1
    # A file that is put last: what was tuned for these rounds is in it, whatever is before it.
    chosen = load(GenerateConfig, ["configs/embedded.yaml", str(tmp_path / "run" / "chosen.yaml")])
    assert (chosen.lm.path, chosen.reward.judge, chosen.reward.guide) == (lm, lm, f"{run}/{FIRST}")
    assert (chosen.decoding.method, chosen.decoding.max_tokens) == ("nabla", 1024)
    assert chosen.decoding.nabla == load(ImproveConfig, ()).decoding.nabla


def test_a_model_of_the_config_keeps_its_revision_in_the_choice_and_a_trained_one_has_none():
    given = ["lm.revision=abc", "reward.judge_revision=def", "reward.guide=a/head"]
    config = load(ImproveConfig, (), [*given, "reward.guide_revision=ghi", "lm.path=an/lm"])
    kept = replace(round_(0, 0.5, lm="an/lm", judge="embedded"), guide="a/head")
    trained = round_(1, 0.5, lm="run/student", judge="run/judge")
    for one, revisions in ((kept, ("abc", "def", "ghi")), (trained, (None, None, None))):
        found = chosen_settings(config, one)
        reward = found["reward"]
        named = (found["lm"]["revision"], reward["judge_revision"], reward["guide_revision"])
        assert named == revisions


def test_an_lm_is_trained_on_the_traces_of_the_round_and_everything_after_it_has_the_new_lm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = Steps({"round-1/validation-greedy": (0.0, 0.75), "round-1/samples": (0.0, 0.5)})
    improved = run_rounds(tmp_path, monkeypatch, steps, *ALL, "reward.guide=embedded-head")
    old, student = "embedded", "round-1/student/student"
    head = short(steps, tmp_path)[8][2]
    assert head is not None
    assert head.endswith("weights/head")
    assert short(steps, tmp_path)[:12] == [
        ("round-0/eval-greedy", old, None),
        ("round-0/eval", old, "embedded-head"),
        ("round-1/traces", old, "embedded-head"),
        ("round-1/samples", old, None),
        ("round-1/student", old, None),
        ("round-1/validation-greedy", student, None),
        ("round-0/validation-greedy", old, None),
        ("round-1/counterfactuals", student, "embedded-head"),
        ("round-1/guide", student, head),
        ("round-1/validation-search", student, FIRST),
        ("round-1/eval-greedy", student, None),
        ("round-1/eval", student, FIRST),
    ]
    run = str(tmp_path / "run")
    second = steps.settings[f"{run}/round-2/student"]
    assert second.student.path == f"{run}/{student}"
    assert second.export.filters.verified
    assert second.export.run_dir == tuple(
        f"{run}/round-{n}/{step}" for n in (1, 2) for step in ("traces", "samples")
    )
    # Counterfactuals of another LM are no data of a guide.
    assert steps.settings[f"{run}/round-2/guide"].data.counterfactuals == (
        f"{run}/round-2/counterfactuals",
    )
    assert improved.rounds[1].distilled == 3
    assert improved.rounds[0].top1 is None
    assert {name: use.used for name, use in improved.rounds[1].used.items()} == {
        "lm": True,
        "guide": True,
    }
    # Every prompt of the search is right, and every greedy answer to the last two was wrong. Eight
    # samples cost as much as a search of 8 MFLOP.
    assert improved.rounds[1].yields["search"] == Yielded(
        right=1.0,
        hard=2,
        right_on_hard=1.0,
        mflop=8.0,
        right_per_gflop=125.0,
        plain_samples=8,
        plain_right=0.5,
        plain_right_on_hard=0.0,
        plain_mflop=8.0,
    )


def test_a_judge_learns_what_the_new_lm_gets_right_and_wrong_and_scores_all_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = Steps({})
    more = ("judge.temperatures=[0.5,1]", "reward.guide=embedded-head", "rounds=1")
    improved = run_rounds(tmp_path, monkeypatch, steps, *JUDGED, *more)
    run, student = f"{tmp_path}/run", "round-1/student/student"
    judge = f"{run}/round-1/judge/judge"
    trained = steps.settings[f"{run}/round-1/judge"]
    assert trained.data.runs == tuple(
        f"{run}/round-1/answers-{name}" for name in ("0.5", "1", "decoded")
    )
    assert (trained.lm.path, trained.reward.judge) == (f"{run}/{student}", "embedded")
    assert steps.settings[f"{run}/round-1/answers-decoded"].decoding.method == "nabla"
    gate = steps.settings[f"{run}/round-1/validation-judge"]
    assert (gate.reward.judge, gate.reward.guide) == (judge, None)
    assert gate.decoding.nabla.ranked.beta is None
    for step in ("counterfactuals", "guide", "eval"):
        assert steps.settings[f"{run}/round-1/{step}"].reward.judge == judge
    # Traces that another judge scored are no data of a guide.
    assert steps.settings[f"{run}/round-1/guide"].data.traces == ()
    last = improved.rounds[1]
    assert (last.judge, last.used["judge"].used) == (judge, True)
    # Rewards of another judge cannot be compared.
    assert last.reward_gain is None
    assert last.accuracy_gain is not None


def test_what_another_judge_scored_is_no_data_of_a_guide_of_the_same_lm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = Steps({})
    judged = ("steps=[search,judge,counterfactuals,guide]", "answers=final")
    run_rounds(tmp_path, monkeypatch, steps, *judged)
    run = f"{tmp_path}/run"
    for number in (1, 2):
        data = steps.settings[f"{run}/round-{number}/guide"].data
        assert data.counterfactuals == (f"{run}/round-{number}/counterfactuals",)
        assert data.traces == ()


def test_a_step_without_rows_ends_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = Steps({})
    steps.outcome = RunOutcome(finished=0, dead=4, total=4, totals={})
    with pytest.raises(RunError, match=r"round-0/eval-greedy: too many dead letters to continue"):
        run_rounds(tmp_path, monkeypatch, steps)
