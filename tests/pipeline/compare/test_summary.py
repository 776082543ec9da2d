"""The figures of a comparison, and what cannot be compared."""

import pytest

from pipeline.compare.config import Bootstrap
from pipeline.compare.report import markdown
from pipeline.compare.summary import summarise
from pipeline.errors import InputError, RunError
from tests.pipeline.compare.arms import arm, response

SETTINGS = Bootstrap(resamples=200)
BASE = {"p": [(1.0, True)], "q": [(2.0, False)], "r": [(0.0, False)]}
OTHER = {"p": [(2.0, True)], "q": [(3.0, True)], "r": [(1.0, False)]}


def test_accuracy_and_reward_are_compared_by_prompt():
    found = summarise([arm("greedy", BASE), arm("search", OTHER, cost=5.0)], "greedy", SETTINGS)
    search = found.arms[1]
    assert found.prompts == 3
    assert search.accuracy.mean == pytest.approx(2 / 3)
    assert search.over_reference["accuracy"].difference.mean == pytest.approx(1 / 3)
    assert search.over_reference["accuracy"].won == 1
    assert search.over_reference["reward"].difference == pytest.approx((1.0, 1.0, 1.0))
    assert search.costs["flops"] == 5.0
    assert not found.arms[0].over_reference
    # q and r are those that the reference gets wrong.
    assert search.yields.hard == 2
    assert search.yields.right_on_hard == pytest.approx(0.5)
    assert "| search | 1 | 0.667 |" in markdown(found)
    assert "of those wrong in greedy" in markdown(found)


def test_a_prompt_with_a_dead_letter_counts_in_no_arm():
    other = arm("search", OTHER)
    del other.responses["q"]
    other.dead.add("q")
    found = summarise([arm("greedy", BASE), other], "greedy", SETTINGS)
    assert found.prompts == 2
    assert found.dead == {"search": 1}
    assert found.arms[0].accuracy.mean == 0.5
    other.dead |= {"p", "r"}
    with pytest.raises(RunError, match="nothing to compare"):
        summarise([arm("greedy", BASE), other], "greedy", SETTINGS)


def test_other_prompts_are_refused_by_name():
    fewer = arm("search", {"p": [(1.0, True)]})
    with pytest.raises(InputError, match=r"greedy and search answer different prompts.*'q'"):
        summarise([arm("greedy", BASE), fewer], "greedy", SETTINGS)
    edited = arm("search", OTHER)
    edited.fingerprints["q"] = "another text"
    with pytest.raises(InputError, match=r"prompt 'q' has another text or answer in search"):
        summarise([arm("greedy", BASE), edited], "greedy", SETTINGS)


def test_without_answers_rewards_are_compared():
    base, other = (
        {p: [(r, None) for r, _ in g] for p, g in rows.items()} for rows in (BASE, OTHER)
    )
    found = summarise([arm("greedy", base), arm("search", other)], "greedy", SETTINGS)
    assert found.arms[1].accuracy is None
    assert found.arms[1].yields is None
    assert found.arms[1].over_reference.keys() == {"reward"}
    nothing = {p: [(None, None)] for p in BASE}
    with pytest.raises(InputError, match="neither a grade nor a reward"):
        summarise([arm("greedy", nothing), arm("search", nothing)], "greedy", SETTINGS)


def test_changed_answers_that_became_wrong_are_counted():
    search = arm("search", OTHER)
    search.responses = {
        "p": [response(0, 1.0, False, base_correct=True, revised=True)],
        "q": [response(0, 1.0, True, base_correct=False, revised=True)],
        "r": [response(0, 1.0, False, base_correct=True)],  # not revised
    }
    found = summarise([arm("greedy", BASE), search], "greedy", SETTINGS)
    assert found.arms[1].broken == 0.5
    assert found.arms[0].broken is None
    assert "50.0%" in markdown(found)


def test_bands_are_made_of_the_reference():
    base = arm("sample", {"p": [(1.0, True)] * 2, "q": [(1.0, True), (1.0, False)]})
    found = summarise(
        [base, arm("search", {"p": [(1.0, False)], "q": [(1.0, True)]})], "sample", SETTINGS
    )
    assert found.bands["pass rate 1"] == 1
    assert found.bands["pass rate above 0, at most .5"] == 1
    assert found.arms[1].bands["pass rate 1"] == 0.0
    assert found.arms[1].bands["pass rate above 0, at most .5"] == 1.0
