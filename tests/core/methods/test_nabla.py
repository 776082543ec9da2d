"""The loop against a scripted engine."""

from __future__ import annotations

from typing import Any

import pytest

from nabla_core import NablaConfig, Prompt, Ranked, Sampling, drive, nabla
from nabla_core.engines.base import Engines
from nabla_core.errors import ContextError, EncodingError, NonFiniteError
from nabla_core.requests import (
    Propose,
    Rollout,
    Score,
    Sweep,
)
from tests.core.methods.script import (
    STOP,
    Script,
    Scripted,
    Tokens,
    counting,
    every_position,
    run,
    total,
)


def test_accepted_revisions_build_on_each_other():
    script = Script(counting, total, every_position)
    trace = run(script)
    assert trace.tokens == (11, 12, 13, 14, STOP)
    assert trace.finish_reason == "stop"
    assert [(r.position, r.from_token, r.to_token, r.accepted) for r in trace.revisions] == [
        (0, 1, 11, True),
        (1, 2, 12, True),
        (2, 3, 13, True),
        (3, 4, 14, True),
    ]
    assert [(r.reward_before, r.reward_after) for r in trace.revisions] == [
        (10, 20), (20, 30), (30, 40), (40, 50),
    ]  # fmt: skip
    # Each acceptance is swept, from the committed boundary on.
    assert [(s.response.tokens[:4], s.boundary) for s in script.of(Sweep)] == [
        ((1, 2, 3, 4), 0),
        ((11, 2, 3, 4), 1),
        ((11, 12, 3, 4), 2),
        ((11, 12, 13, 4), 3),
        ((11, 12, 13, 14), 4),
    ]


def test_rejected_revisions_leave_the_response_and_its_sweep():
    script = Script(counting, lambda y: -total(y), every_position)
    trace = run(script)
    assert trace.tokens == (1, 2, 3, 4, STOP)
    assert [r.accepted for r in trace.revisions] == [False] * 4
    assert len(script.of(Sweep)) == 1
    # Every proposal starts again from the first response.
    assert [r.prefix for r in script.of(Rollout)] == [
        (), (11,), (1, 12), (1, 2, 13), (1, 2, 3, 14),
    ]  # fmt: skip


def test_an_equal_reward_is_no_improvement():
    trace = run(Script(counting, lambda _: 1.0, every_position))
    assert trace.tokens == (1, 2, 3, 4, STOP)
    assert not any(r.accepted for r in trace.revisions)


def test_the_record_of_a_revision():
    trace = run(Script(counting, total, lambda y: [(1, 9)] if y[1] == 2 else []))
    (revision,) = trace.revisions
    assert (revision.from_text, revision.to_text) == ("!2", "!9")
    assert (revision.confidence, revision.grad_norm, revision.advantage) == (0.5, 2.0, 0.25)
    assert (trace.prompt_id, trace.sample, trace.prompt_text, trace.seed) == ("q", 0, "question", 3)
    assert (trace.base_text, trace.text) == ("1.2.3.4.0", "1.9.3.4.0")
    assert (trace.base_reward, trace.reward) == (10.0, 17.0)


def test_a_trace_without_revisions_keeps_its_base():
    script = Script(counting, total, lambda _: [])
    trace = run(script)
    assert trace.revisions == ()
    assert trace.base_text == trace.text == "1.2.3.4.0"
    assert trace.base_reward == trace.reward == 10.0
    assert len(script.of(Propose)) == 1


@pytest.mark.parametrize("speculate", [1, 2, 3, 8])
@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_no_more_than_max_rollouts_are_proposed(most: int, speculate: int):
    script = Script(counting, lambda y: -total(y), every_position)
    trace = run(script, NablaConfig(max_rollouts=most, speculate=speculate))
    assert len(trace.revisions) == most
    assert len(script.of(Rollout)) == 1 + most


def test_the_last_acceptance_is_not_swept_again():
    script = Script(counting, total, every_position)
    run(script, NablaConfig(max_rollouts=2))
    assert len(script.of(Sweep)) == 2


@pytest.mark.parametrize("speculate", [1, 2, 3, 5])
def test_speculation_takes_the_first_acceptance_in_order_and_drops_the_rest(speculate: int):
    # Revising position 1 or 3 is an improvement, 0 and 2 are not.
    def reward(y: Tokens) -> float:
        return total(y[1::2]) - total(y[::2])

    script = Script(counting, reward, every_position)
    trace = run(script, NablaConfig(speculate=speculate))
    assert [(r.position, r.accepted) for r in trace.revisions] == [
        (0, False),
        (1, True),
        (2, False),
        (3, True),
    ]
    assert trace.tokens == (1, 12, 3, 14, STOP)
    assert [r.reward_before for r in trace.revisions] == [2, 2, 12, 12]


def test_the_best_of_a_batch_wins_where_asked_for():
    gains = {(11, 2, 3, 4): 1.0, (1, 12, 3, 4): 5.0, (1, 2, 13, 4): 5.0, (1, 2, 3, 14): -1.0}

    def reward(y: Tokens) -> float:
        return gains.get(y[:4], 0.0)

    script = Script(counting, reward, every_position)
    trace = run(script, NablaConfig(speculate=4, take="best"))
    # All four were tried and are on record; the first of the best is taken.
    assert [(r.position, r.reward_after, r.accepted) for r in trace.revisions[:4]] == [
        (0, 1.0, False),
        (1, 5.0, True),
        (2, 5.0, False),
        (3, -1.0, False),
    ]
    # Everything behind the accepted revision is open again.
    assert [(r.position, r.reward_before) for r in trace.revisions[4:]] == [(2, 5.0), (3, 5.0)]
    assert trace.tokens == (1, 12, 3, 4, STOP)
    assert trace.reward == 5.0


def test_speculated_rollouts_draw_as_they_would_one_by_one():
    def keys(speculate: int) -> list[tuple[Tokens, str]]:
        script = Script(counting, lambda y: -total(y), every_position)
        run(script, NablaConfig(speculate=speculate))
        return [(r.prefix, r.key.purpose) for r in script.of(Rollout)]

    assert keys(1) == [
        ((), "rollout 0"),
        ((11,), "rollout 1"),
        ((1, 12), "rollout 2"),
        ((1, 2, 13), "rollout 3"),
        ((1, 2, 3, 14), "rollout 4"),
    ]
    assert keys(2) == keys(3) == keys(1)


def test_draws_are_keyed_by_seed_prompt_and_sample():
    script = Script(counting, total, every_position)
    prompt = Prompt.of("question", id="another", sample=4)
    list(drive([nabla(prompt, NablaConfig(), seed=9)], Engines(Scripted(script))))
    for request in [*script.of(Rollout), *script.of(Propose)]:
        assert (request.key.seed, request.key.prompt_id, request.key.sample) == (9, "another", 4)


def test_requests_carry_settings_limit_and_caches():
    script = Script(counting, total, lambda y: [(2, 9)] if y[2] == 3 else [])
    sampling = Sampling(0.9, 0.8, 7)
    run(script, NablaConfig(rollout=sampling), max_tokens=5)
    first, second = script.of(Rollout)
    assert (first.sampling, first.max_tokens, first.reuse) == (sampling, 5, None)
    assert second.reuse == ("lm", (1, 2, 3, 4, STOP))
    base, revised = script.of(Score)
    assert (base.paper_calls, revised.paper_calls) == (1, 2)
    assert revised.reuse == ("judge", (1, 2, 3, 4, STOP))
    _, again = script.of(Sweep)
    assert again.previous == ("g", (1, 2, 3, 4, STOP))
    assert again.response.cache == ("lm", (1, 2, 9, 4, STOP))


def test_one_model_in_both_roles_is_not_asked_twice():
    script = Script(counting, total, every_position, judges=True)
    trace = run(script)
    assert trace.base_reward == 10.0
    assert len(script.of(Score)) == len(trace.revisions)


def test_the_response_that_reaches_the_limit_is_as_long_as_it():
    trace = run(Script(lambda prefix: (5,) * 50, total, lambda _: []), max_tokens=6)
    assert trace.tokens == (5,) * 6
    assert trace.finish_reason == "length"


def test_costs_of_all_requests_are_counted():
    script = Script(counting, total, every_position)
    assert run(script).cost.paper_calls == len(script.asked)


# Ranked ------------------------------------------------------------------------------------


def ranked(**settings: Any) -> NablaConfig:
    return NablaConfig(proposals="ranked", **settings)


def test_ranked_proposals_come_in_the_order_of_the_ranking():
    order = [(2, 9), (0, 8), (2, 7)]
    script = Script(counting, lambda y: -total(y), lambda _: order)
    trace = run(script, ranked())
    assert [(r.position, r.to_token) for r in trace.revisions] == order
    assert {p.boundary for p in script.of(Propose)} == {0}


def test_ranked_sweeps_start_over_after_an_acceptance():
    script = Script(counting, total, lambda y: [(3, 9)] if y[3] == 4 else [(0, 50)])
    trace = run(script, ranked(max_rollouts=2))
    assert [(r.position, r.accepted) for r in trace.revisions] == [(3, True), (0, True)]
    assert trace.tokens == (50, 2, 3, 4, STOP)
    assert [s.boundary for s in script.of(Sweep)] == [0, 0]


def test_ranked_pairs_are_not_tried_twice_behind_the_same_prefix():
    """An acceptance at 2 keeps what was tried at 0 and 2, and opens what was tried at 3."""

    def revisions(y: Tokens) -> list[tuple[int, int]]:
        if y[2] == 3:
            return [(0, 1), (3, 1), (2, 1), (2, 9)]
        return [(0, 1), (3, 1), (2, 1)]

    def reward(y: Tokens) -> float:
        return 1.0 if y[2:3] == (9,) else 0.0

    script = Script(counting, reward, revisions)
    trace = run(script, ranked())
    assert [(r.position, r.to_token, r.accepted) for r in trace.revisions] == [
        (0, 1, False),
        (3, 1, False),
        (2, 1, False),
        (2, 9, True),
        (3, 1, False),
    ]


def test_ranked_proposals_do_not_lead_back_to_the_response_just_left():
    """Its tail was rolled out from there already and its reward is known to be lower."""

    def back(y: Tokens) -> list[tuple[int, int]]:
        return [(1, 2), (0, 5)] if y[1] == 9 else [(1, 9)]

    trace = run(Script(counting, lambda y: float(y[1]), back), ranked())
    assert [(r.position, r.to_token) for r in trace.revisions] == [(1, 9), (0, 5)]


@pytest.mark.parametrize(
    ("weight", "kept"),
    [
        (0.0, (3, "judge alone")),
        (1.0, (9, "2 nats of score against a gain of 2 are not enough, against 6 they are")),
        (2.0, (3, "but twice a gain of 2 is")),
    ],
)
def test_an_unlikely_change_needs_more_of_the_judges_favour(weight: float, kept: tuple[int, str]):
    """Both candidates are better to the judge, by 2 and by 6, and score -2."""
    script = Script(
        counting,
        lambda y: {1: 0.0, 3: 2.0, 9: 6.0}[y[0]],
        lambda y: [(0, 3), (0, 9)] if y[0] == 1 else [],
        score=lambda i, b: -2.0,
    )
    trace = run(script, ranked(ranked=Ranked(min_score=-5.0, reward_weight=weight)))
    assert trace.tokens[0] == kept[0], kept[1]


def test_a_lower_reward_is_never_accepted_whatever_its_weight():
    script = Script(counting, lambda y: -y[0], lambda y: [(0, 3)], score=lambda i, b: 50.0)
    trace = run(script, ranked(ranked=Ranked(reward_weight=0.1)))
    assert [r.accepted for r in trace.revisions] == [False]


def test_reward_weight_is_for_rankings_alone():
    """Left to right, nothing is ranked and every score is 0."""
    config = NablaConfig(ranked=Ranked(reward_weight=0.001))
    plain = run(Script(counting, total, every_position))
    assert run(Script(counting, total, every_position), config).tokens == plain.tokens


@pytest.mark.parametrize("speculate", [1, 3, 4])
@pytest.mark.parametrize("error", [ContextError("65 tokens"), EncodingError("token 12")])
def test_a_candidate_that_the_judge_cannot_read_is_rejected(speculate: int, error: Exception):
    def reward(tokens: Tokens) -> float:
        if 12 in tokens or 14 in tokens:
            raise error
        return total(tokens)

    script = Script(counting, reward, every_position)
    trace = run(script, NablaConfig(speculate=speculate))
    assert trace.tokens == (11, 2, 13, 4, STOP)
    assert [(r.position, r.reward_before, r.reward_after, r.accepted) for r in trace.revisions] == [
        (0, 10, 20, True),
        (1, 20, None, False),
        (2, 20, 30, True),
        (3, 30, None, False),
    ]
    assert trace.reward == 30


def test_other_errors_of_the_judge_and_an_unreadable_first_response_end_the_trace():
    def reward(tokens: Tokens) -> float:
        if 12 in tokens:
            raise NonFiniteError("reward of nan")
        return total(tokens)

    with pytest.raises(NonFiniteError):
        run(Script(counting, reward, every_position))

    def unread(tokens: Tokens) -> float:
        raise ContextError("65 tokens")

    with pytest.raises(ContextError):
        run(Script(counting, unread, every_position))
