"""What is used of what a round trained, and when rounds end (`replaced_steps`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.pipeline.improve.replaced_steps import (
    ALL,
    FIRST,
    JUDGED,
    Steps,
    run_rounds,
    short,
)


def test_an_lm_that_is_worse_on_validation_prompts_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = Steps({"round-1/validation-greedy": (0.0, 0.0), "round-0/validation-greedy": (0.0, 1)})
    improved = run_rounds(tmp_path, monkeypatch, steps, *ALL, "rounds=1")
    use = improved.rounds[1].used["lm"]
    assert not use.used
    assert use.reason == "accuracy is below that of the LM before: -1.000 [-1.000, -1.000]"
    assert ("round-1/counterfactuals", "embedded", None) in short(steps, tmp_path)
    assert improved.rounds[1].lm == "embedded"


def test_a_guide_that_makes_its_lm_worse_is_not_used_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = {"round-0/validation-greedy": (0.0, 1.0), "round-2/validation-search": (9.0, 0.0)}
    steps = Steps(results)
    improved = run_rounds(tmp_path, monkeypatch, steps, "rounds=3")
    assert [r.used["guide"].used for r in improved.rounds[1:]] == [True, False, True]
    assert [r.way for r in improved.rounds] == ["decoding", "greedy", "greedy", "greedy"]
    ran = short(steps, tmp_path)
    assert ("round-2/validation-search-before", "embedded", FIRST) in ran
    assert ("round-3/traces", "embedded", FIRST) in ran
    assert ("round-3/guide", "embedded", FIRST) in ran
    figures = json.loads((tmp_path / "run" / "rounds.json").read_text())
    assert figures["rounds"][2]["used"]["guide"] == {
        "used": False,
        "reason": "accuracy is below that of the LM alone: -1.000 [-1.000, -1.000]",
        "gain": [-1.0, -1.0, -1.0],
    }


def test_where_no_guide_is_of_use_the_lm_is_chosen_alone_and_searches_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    worse = {f"round-1/validation-search{end}": (9.0, 0.0) for end in ("", "-before")}
    worse |= {f"round-{n}/validation-greedy": (0.0, 1.0) for n in range(3)}
    steps = Steps({**worse, "round-1/eval": (9.0, 0.25), "round-0/eval": (9.0, 0.25)})
    improved = run_rounds(tmp_path, monkeypatch, steps, *ALL, "reward.guide=embedded-head")
    assert improved.rounds[1].way == "greedy"
    ran = [name for name, _, _ in short(steps, tmp_path)]
    assert "round-2/traces" not in ran
    assert "round-2/samples" in ran
    # Nobody knows which prompts are hard: there is no greedy response in a search.
    assert "round-2/greedy" in ran
    start = next(guide for name, _, guide in short(steps, tmp_path) if name == "round-2/guide")
    assert start == "judge"
    only_search = ("steps=[search,distill]", "answers=final")
    steps = Steps({**worse, "round-1/eval": (9.0, 0.25), "round-0/eval": (9.0, 0.25)})
    improved = run_rounds(tmp_path / "b", monkeypatch, steps, *only_search)
    assert improved.stop_reason == "nothing_of_use"
    assert len(improved.rounds) == 2
    chosen = yaml.safe_load((tmp_path / "b" / "run" / "chosen.yaml").read_text())
    assert chosen["decoding"] == {"method": "greedy", "max_tokens": 1024}


def test_a_judge_that_makes_its_lm_worse_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    greedy = {f"round-{n}/validation-greedy": (0.0, 1.0) for n in range(2)}
    steps = Steps(greedy | {"round-1/validation-judge": (9.0, 0.0)})
    improved = run_rounds(tmp_path, monkeypatch, steps, *JUDGED, "rounds=1")
    assert not improved.rounds[1].used["judge"].used
    counterfactuals = steps.settings[f"{tmp_path}/run/round-1/counterfactuals"]
    assert counterfactuals.reward.judge == improved.rounds[1].judge == "embedded"


def test_guided_rounds_without_a_guide_of_use_have_the_lm_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = {f"round-{n}/validation-greedy": (0.0, 1.0) for n in range(3)}
    steps = Steps(results | {"round-1/validation-search": (9.0, 0.0)})
    guided = ("decoding.method=guided", "reward.guide=embedded-head", "explore.tail.beta=0.5")
    only_lm = ("steps=[search,samples,distill]", "answers=final")
    improved = run_rounds(tmp_path, monkeypatch, steps, *only_lm, *guided)
    ran = [name for name, _, _ in short(steps, tmp_path)]
    # The first response of guided decoding is not the greedy one.
    assert "round-1/greedy" in ran
    assert not {"round-2/traces", "round-2/eval", "round-2/validation-search"} & set(ran)
    last = improved.rounds[2]
    assert (last.guide, last.way, last.accuracy) == (None, "greedy", 0.5)

    steps = Steps(results | {"round-1/validation-search": (9.0, 0.0)})
    everything = ("steps=[samples,distill,counterfactuals,guide]", "answers=final")
    run_rounds(tmp_path / "b", monkeypatch, steps, *everything, *guided)
    run = f"{tmp_path}/b/run"
    assert steps.settings[f"{run}/round-1/counterfactuals"].explore.tail.beta == 0.5
    # The new guide makes its LM worse, and the one before does not: it stays.
    assert steps.settings[f"{run}/round-2/counterfactuals"].reward.guide == "embedded-head"


def test_rounds_end_where_the_reward_is_hacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = {"round-0/eval": (1.0, 1.0), "round-1/eval": (2.0, 0.0)}
    improved = run_rounds(tmp_path, monkeypatch, Steps(results))
    assert improved.stop_reason == "reward_hacked"
    assert [r.reward_hacked for r in improved.rounds] == [False, True]
    assert improved.chosen.number == 0
    chosen = yaml.safe_load((tmp_path / "run" / "chosen.yaml").read_text())
    assert (chosen["reward"]["judge"], chosen["reward"]["guide"]) == ("embedded", None)
