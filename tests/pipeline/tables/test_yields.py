"""Yields against counting by hand: every set of k samples, one by one."""

from itertools import combinations

import pyarrow as pa
import pytest

from pipeline.tables.yields import (
    Attempted,
    Attempts,
    Yield,
    attempted,
    pass_at,
    samples_for,
    yield_of,
)


@pytest.mark.parametrize(("right", "made"), [(0, 4), (1, 4), (3, 7), (7, 7)])
def test_pass_at_k_is_the_share_of_all_sets_of_k_samples_with_a_right_one(right, made):
    samples = [True] * right + [False] * (made - right)
    for k in range(1, made + 1):
        sets = list(combinations(samples, k))
        expected = sum(any(chosen) for chosen in sets) / len(sets)
        assert pass_at(k, Attempts(right=right, made=made)) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 5])
def test_more_samples_than_there_are_cannot_be_asked_for(k):
    with pytest.raises(ValueError, match=rf"pass@{k} needs at least {k} responses"):
        pass_at(k, Attempts(right=1, made=4))


MADE = Attempted(
    prompts={
        "easy": Attempts(right=4, made=4),
        "hard": Attempts(right=1, made=4),
        "harder": Attempts(right=0, made=4),
    },
    flops=12e9,
)


def test_the_yield_counts_prompts_and_not_responses():
    assert yield_of(MADE, {"hard", "harder"}) == Yield(
        right=pytest.approx(2 / 3),
        hard=2,
        right_on_hard=0.5,
        flops=4e9,
        right_per_gflop=pytest.approx(2 / 3 / 4),
        hard_per_gflop=pytest.approx(0.5 / 4),
    )
    one = yield_of(MADE, {"hard", "harder"}, k=1)
    assert one.right == pytest.approx((1 + 0.25) / 3)
    assert one.right_on_hard == pytest.approx(0.125)
    assert one.flops == 1e9


def test_without_greedy_answers_nothing_is_said_of_hard_prompts():
    assert yield_of(MADE).hard is None
    assert yield_of(MADE).right_on_hard is None
    assert yield_of(MADE).hard_per_gflop is None
    none_hard = yield_of(MADE, set())
    assert (none_hard.hard, none_hard.right_on_hard) == (0, None)


def test_as_many_samples_are_compared_as_cost_the_same():
    assert samples_for(2.4e9, MADE) == 2
    assert samples_for(0.1e9, MADE) == 1
    assert samples_for(100e9, MADE) == 4


def test_dead_letters_and_rows_without_an_answer_are_no_attempts():
    def row(prompt_id, correct, error=None):
        cost = None if error else {"flops": 2.0}
        return {"prompt_id": prompt_id, "correct": correct, "error": error, "cost": cost}

    rows = [row("a", True), row("a", False), row("b", None), row("c", None, "TimeoutError: late")]
    found = attempted([pa.Table.from_pylist(rows[:2]), pa.Table.from_pylist(rows[2:])])
    assert found == Attempted(prompts={"a": Attempts(right=1, made=2)}, flops=4.0)
    assert attempted([pa.Table.from_pylist(rows[2:])]) is None
