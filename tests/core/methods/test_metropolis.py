"""The Metropolis sampler: its law by enumeration where responses differ in length."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from nabla_core import MH, Decoding, Prompt, Runtime, Sampling, drive, flow, mh
from nabla_core import mh as _exported
from nabla_core.draws import uniform
from nabla_core.engines.base import BatchEngine, Engines
from nabla_core.errors import NonFiniteError
from nabla_core.methods.metropolis import acceptance
from nabla_core.requests import (
    Context,
    Decode,
    Judged,
    Render,
    Reply,
    Response,
    Result,
    Rollout,
    Score,
)
from tests.core.tiny import Family, decisions, prompts

STOP, LONGEST = 0, 3
CONTEXT = Context("question", (7,), ((7,), ()), ((7,), ()))
# Given the previous token: chances of stopping, of token 1 and of token 2.
CHANCES = {None: (0.0, 0.5, 0.5), 1: (0.5, 0.3, 0.2), 2: (0.2, 0.2, 0.6)}
REWARDS = {(1, 0): 0.0, (2, 0): 1.0, (1, 1): 0.5}


def reward(tokens: Sequence[int]) -> float:
    return REWARDS.get(tuple(tokens), 0.4 * len(tokens))


def responses() -> dict[tuple[int, ...], float]:
    """Every response and its probability under the toy LM."""
    found: dict[tuple[int, ...], float] = {}

    def grow(tokens: tuple[int, ...], p: float) -> None:
        if len(tokens) == LONGEST or (tokens and tokens[-1] == STOP):
            found[tokens] = p
            return
        for token, chance in enumerate(CHANCES[tokens[-1] if tokens else None]):
            if chance:
                grow((*tokens, token), p * chance)

    grow((), 1.0)
    return found


class Toy(BatchEngine):
    """Draws responses of one to three tokens by the keys it is given."""

    kinds = (Render, Decode, Rollout, Score)

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(capacity=512)
        self.scale = scale

    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        return [Reply(self._value(request)) for request in requests]

    def _value(self, request: Any) -> Any:
        match request:
            case Render():
                return CONTEXT
            case Rollout(prefix=prefix, key=key):
                tokens = list(prefix)
                while len(tokens) < LONGEST and (not tokens or tokens[-1] != STOP):
                    chances = CHANCES[tokens[-1] if tokens else None]
                    u = uniform(key, len(tokens))
                    bounds = list(itertools.accumulate(chances))
                    tokens.append(next(i for i, b in enumerate(bounds) if u < b))
                return Response(tuple(tokens), "stop" if tokens[-1] == STOP else "length")
            case Score(tokens=tokens):
                return Judged(self.scale * reward(tokens))
            case Decode(sequences):
                return ["".join(map(str, tokens)) for tokens in sequences]


def law_of(config: MH, runs: int, scale: float = 1.0) -> Counter[tuple[int, ...]]:
    flows = (
        mh(Prompt.of("q", id=f"p{n}"), config, seed=3, max_tokens=LONGEST) for n in range(runs)
    )
    return Counter(t.tokens for t in drive(flows, Engines(Toy(scale)), in_flight=1500))


def chi_square(seen: Counter[tuple[int, ...]], weights: dict[tuple[int, ...], float]) -> float:
    total, mass = seen.total(), sum(weights.values())
    return sum((seen[y] - total * w / mass) ** 2 / (total * w / mass) for y, w in weights.items())


def test_responses_of_different_lengths_come_out_as_pi_star_has_them():
    """Fourteen responses; chi square of 13 degrees, .1 % point 34.5."""
    ref, beta = responses(), 1.0
    assert len(ref) == 14
    assert sum(ref.values()) == pytest.approx(1)
    seen = law_of(MH(beta=beta, steps=10), 2000)
    optimum = {y: p * math.exp(reward(y) / beta) for y, p in ref.items()}
    assert chi_square(seen, optimum) < 34.5
    assert chi_square(seen, ref) > 150
    # What comes out when the lengths are left out of the acceptance: L times as often.
    biased = {y: w * len(y) for y, w in optimum.items()}
    assert chi_square(seen, biased) > 34.5


def test_without_steps_or_reward_it_is_the_reference():
    ref = responses()
    assert chi_square(law_of(MH(steps=0), 2000), ref) < 34.5
    assert chi_square(law_of(MH(steps=6), 2000, scale=0.0), ref) < 34.5


def test_the_acceptance_by_hand():
    assert acceptance(Judged(1.0), Judged(2.0), 4, 4, 1.0) == 1
    assert acceptance(Judged(2.0), Judged(1.0), 4, 4, 0.5) == pytest.approx(math.exp(-2))
    assert acceptance(Judged(1.0), Judged(1.0), 3, 6, 1.0) == pytest.approx(0.5)
    assert acceptance(Judged(0.0), Judged(1e9), 3, 6, 1e-9) == 1


def test_every_proposal_is_in_the_trace(plain: Family):
    config = MH(beta=0.3, steps=6)
    for trace in drive((mh(p, config, max_tokens=10) for p in prompts(5)), plain.engines()):
        assert len(trace.revisions) == 6
        current = trace.base_reward
        for revision in trace.revisions:
            assert revision.reward_before == pytest.approx(current)
            assert revision.confidence is None
            current = revision.reward_after if revision.accepted else current
        assert trace.reward == pytest.approx(current)
        assert trace.cost.rollouts == 7
        assert trace.cost.rm_backward == trace.cost.lm_backward == 0
        # The prompt is read once; every tail continues from a cache.
        assert trace.cost.lm_forward == 1


def test_neither_batch_size_nor_cache_nor_company_changes_a_draw(plain: Family):
    asked = prompts(6)
    config = MH(beta=0.5, steps=5)
    runs = []
    for runtime in (
        Runtime(device="cpu"),
        Runtime(device="cpu", max_batch=1),
        Runtime(device="cpu", max_batch=4, reuse=False),
    ):
        flows = (mh(p, config, seed=2, max_tokens=10) for p in asked)
        traces = {t.prompt_id: decisions(t) for t in drive(flows, plain.engines(runtime))}
        runs.append(traces)
    assert runs[0] == runs[1] == runs[2]
    (alone,) = drive([mh(asked[3], config, seed=2, max_tokens=10)], plain.engines())
    assert decisions(alone) == runs[0]["p3"]
    (other,) = drive([mh(asked[3], config, seed=3, max_tokens=10)], plain.engines())
    assert decisions(other) != runs[0]["p3"]


def test_the_method_is_reached_by_its_name(plain: Family):
    asked = prompts(1)[0]
    decoding = Decoding(method="mh", max_tokens=8, mh=MH(beta=0.5, steps=3))
    (named,) = drive([flow(asked, decoding, seed=1)], plain.engines())
    (direct,) = drive([_exported(asked, decoding.mh, seed=1, max_tokens=8)], plain.engines())
    assert decisions(named) == decisions(direct)


def test_a_reward_that_is_not_finite_ends_its_own_prompt():
    class Broken(Toy):
        def _value(self, request: Any) -> Any:
            if isinstance(request, Score):
                raise NonFiniteError("a reward is not finite")
            return super()._value(request)

    failures: list[Exception] = []
    flows = [mh(Prompt.of("q", id="p"), MH(), max_tokens=LONGEST)]
    drawn = drive(flows, Engines(Broken()), failed=lambda index, error: failures.append(error))
    assert list(drawn) == []
    assert [str(f) for f in failures] == ["a reward is not finite"]


def test_settings_that_make_no_sense_are_refused():
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="beta must be positive"):
            MH(beta=beta)
    with pytest.raises(ValueError, match="steps must be at least 0"):
        MH(steps=-1)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        MH(rollout=Sampling(temperature=0))
