"""What fewer samples would have given, against every subset of them."""

from collections import Counter
from itertools import combinations

import pytest

from pipeline.compare import curves as module
from pipeline.compare.curves import best_of, curves, majority
from tests.pipeline.compare.arms import arm, response

GROUP = [
    response(0, 0.3, True),
    response(1, 0.9, False),
    response(2, 0.3, False),
    response(3, 0.1, True),
    response(4, 0.9, True),
]


@pytest.mark.parametrize("k", range(1, 6))
def test_best_of_k_is_the_mean_over_all_subsets(k):
    chosen = [
        max(subset, key=lambda r: (r.reward, -r.sample)).correct
        for subset in combinations(GROUP, k)
    ]
    assert best_of(GROUP, k) == pytest.approx(sum(chosen) / len(chosen))


VOTES = [
    response(n, None, answer == "7", predicted=answer)
    for n, answer in enumerate(["8", "7", None, "7", "8", "9", "7"])
]


def voted(subset):
    """The literal rule: the most votes, and of equals the first."""
    answers = [r.predicted for r in subset if r.predicted is not None]
    if not answers:
        return False
    most = max(Counter(answers).values())
    return next(a for a in answers if answers.count(a) == most) == "7"


@pytest.mark.parametrize("k", range(1, 8))
def test_majority_of_k_is_the_mean_over_all_subsets(k):
    shares = [voted(subset) for subset in combinations(VOTES, k)]
    assert majority(VOTES, k) == pytest.approx(sum(shares) / len(shares))


def test_random_subsets_of_too_many_have_the_same_mean(monkeypatch):
    exact = majority(VOTES, 3)  # of 35 subsets
    monkeypatch.setattr(module, "comb", lambda n, k: module.ALL_SUBSETS + 1)
    # The standard error of 64 subsets is at most .063.
    assert majority(VOTES, 3) == pytest.approx(exact, abs=0.2)


def test_curves_of_an_arm_with_several_samples():
    given = {"p": [(1.0, True), (2.0, False), (0.0, False), (0.5, True)], "q": [(1.0, False)] * 4}
    found = {curve.kind: curve for curve in curves(arm("plain", given, cost=3.0), ["p", "q"])}
    assert found.keys() == {"pass@k", "majority of k", "best of k"}
    assert list(found["pass@k"].samples) == [1, 2, 4]
    # Of the six pairs of p one has no right response; q has none.
    assert found["pass@k"].accuracy == pytest.approx([0.25, 5 / 12, 0.5])
    # The best of all four is wrong; of pairs without it the best is right, in 3 of 6.
    assert found["best of k"].accuracy == pytest.approx([0.25, 0.25, 0.0])
    assert found["best of k"].costs["flops"] == [3.0, 6.0, 12.0]


def test_a_majority_of_one_is_a_sample_and_of_all_the_vote():
    votes = ["7", "7", "8", "9"]
    group = [response(n, None, v == "7", predicted=v) for n, v in enumerate(votes)]
    plain = arm("plain", {})
    plain.responses["p"] = group
    found = {curve.kind: curve for curve in curves(plain, ["p"])}
    assert found.keys() == {"pass@k", "majority of k"}  # without rewards there is no best
    assert found["majority of k"].accuracy[-1] == 1.0
    assert found["majority of k"].accuracy[0] == 0.5


@pytest.mark.parametrize(
    "answers", [[None, None, None, None], [None, "7", "7", "8"]], ids=["no answers", "some"]
)
def test_free_texts_that_are_right_without_an_answer_have_no_vote(answers):
    plain = arm("plain", {})
    plain.responses["p"] = [
        response(n, 1.0, n < 2, predicted=answer) for n, answer in enumerate(answers)
    ]
    assert [curve.kind for curve in curves(plain, ["p"])] == ["pass@k", "best of k"]


def test_responses_that_are_all_wrong_have_a_vote_if_one_has_an_answer():
    plain = arm("plain", {})
    plain.responses["p"] = [
        response(n, None, False, predicted=a) for n, a in enumerate([None, "7"])
    ]
    assert {curve.kind: curve.accuracy for curve in curves(plain, ["p"])} == {
        "pass@k": [0.0, 0.0],
        "majority of k": [0.0, 0.0],
    }
    plain.responses["p"] = [response(n, None, False, predicted=None) for n in range(2)]
    assert [curve.kind for curve in curves(plain, ["p"])] == ["pass@k"]


def test_one_sample_makes_no_curve():
    assert list(curves(arm("greedy", {"p": [(1.0, True)]}), ["p"])) == []
