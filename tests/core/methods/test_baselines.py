"""Methods to compare with: against a sampler of texts, then with real models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from nabla_core import (
    BestOfN,
    Decoding,
    Majority,
    NablaConfig,
    Prompt,
    Ranked,
    Sampling,
    best_of_n,
    drive,
    flow,
    greedy,
    majority,
    nabla,
    sample,
)
from nabla_core.draws import DrawKey
from nabla_core.engines.base import BatchEngine, Engines
from nabla_core.methods.answers import last_answer
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
from tests.core.tiny import Family, decisions, greedy_search, prompts

PROMPT = Prompt.of("question", id="q", sample=2)
CONTEXT = Context("question", (7,), ((7,), ()), ((7,), ()))


class Sampler(BatchEngine):
    """Rollout k is the k-th of `texts`, one token a character; its reward is `reward`."""

    kinds = (Render, Decode, Rollout, Score)

    def __init__(self, texts: list[str], reward: Callable[[str], float] = len) -> None:
        super().__init__(capacity=8)
        self.texts, self.reward = texts, reward
        self.asked: list[Any] = []

    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        self.asked.extend(requests)
        return [Reply(self._value(request)) for request in requests]

    def _value(self, request: Any) -> Any:
        match request:
            case Render():
                return CONTEXT
            case Rollout(key=key):
                text = self.texts[int(key.purpose.removeprefix("rollout "))]
                return Response(tuple(map(ord, text)), "stop")
            case Score(tokens=tokens):
                return Judged(self.reward("".join(map(chr, tokens))))
            case Decode(sequences):
                return ["".join(map(chr, tokens)) for tokens in sequences]


def run(method: Any, engine: Sampler) -> Any:
    (trace,) = drive([method], Engines(engine))
    return trace


def test_best_of_n_keeps_the_first_of_equals():
    engine = Sampler(["aa", "bbbb", "c", "dddd"])
    trace = run(best_of_n(PROMPT, BestOfN(4, Sampling(0.7)), seed=5, max_tokens=9), engine)
    assert (trace.text, trace.reward) == ("bbbb", 4)
    assert (trace.base_text, trace.base_reward) == ("aa", 2)
    assert trace.revisions == ()
    rollouts = [r for r in engine.asked if isinstance(r, Rollout)]
    assert [r.key for r in rollouts] == [DrawKey(5, "q", 2, f"rollout {k}") for k in range(4)]
    assert {(r.sampling, r.max_tokens, r.prefix) for r in rollouts} == {(Sampling(0.7), 9, ())}
    assert [r.paper_calls for r in engine.asked if isinstance(r, Score)] == [1] * 4


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["x1", "y2", "z2", "w3"], "y2"),
        # Equally frequent: the answer that came first.
        (["x1", "y2", "z2", "w1"], "x1"),
        # A response without an answer has no vote, even three of them.
        (["x?", "y?", "z?", "w3"], "w3"),
        (["x?", "y?", "z?", "w?"], "x?"),
    ],
)
def test_majority_keeps_the_first_sample_with_the_most_frequent_answer(texts: list[str], kept: str):
    engine = Sampler(texts)

    def answer(text: str) -> str | None:
        return text[1] if text[1] != "?" else None

    trace = run(majority(PROMPT, Majority(4), answer), engine)
    assert trace.text == kept
    assert trace.base_text == texts[0]
    assert trace.reward is trace.base_reward is None
    assert not any(isinstance(r, Score) for r in engine.asked)


def test_majority_counts_equal_answers_as_one():
    # 5 and 5.0 outvote the two 6; the first of them is kept.
    texts = ["6", "the 5", "is 5.0", "6", "10/2"]
    assert run(majority(PROMPT, Majority(5), last_answer), Sampler(texts)).text == "the 5"
    # By another equality all five are one.
    flow = majority(PROMPT, Majority(5), last_answer, same=lambda a, b: True)
    assert run(flow, Sampler(texts)).text == "6"


def test_sample_and_greedy_are_one_scored_rollout():
    for method, sampling in [
        (sample(PROMPT, Sampling(0.6, 0.9), seed=1), Sampling(0.6, 0.9)),
        (greedy(PROMPT, seed=1), Sampling(0)),
    ]:
        engine = Sampler(["abc"])
        trace = run(method, engine)
        assert (trace.text, trace.base_text) == ("abc", "abc")
        assert trace.reward == trace.base_reward == 3
        (rollout,) = [r for r in engine.asked if isinstance(r, Rollout)]
        assert rollout.sampling == sampling


@pytest.mark.parametrize("count", [0, -1])
def test_no_samples_at_all_are_refused(count: int):
    with pytest.raises(ValueError, match="n must be at least 1"):
        BestOfN(count)
    with pytest.raises(ValueError, match="n must be at least 1"):
        Majority(count)


def test_every_method_is_reached_by_its_name():
    engine = Sampler(["1", "22", "3", "4", "5", "6", "7", "8"])
    texts = {
        name: run(flow(PROMPT, Decoding(method=name), seed=1), engine).text
        for name in ("greedy", "sample", "best_of_n", "majority")
    }
    assert texts == {"greedy": "1", "sample": "1", "best_of_n": "22", "majority": "1"}


# With real models --------------------------------------------------------------------------


def traces(flows: Any, engines: Engines) -> dict[str, Any]:
    return {t.prompt_id: t for t in drive(flows, engines)}


def test_baselines_start_from_the_rollout_nabla_starts_from(plain: Family):
    engines = plain.engines()
    asked = prompts(6)
    config = greedy_search(rollout=Sampling(0.8), max_rollouts=2)
    refined = traces((nabla(p, config, seed=1, max_tokens=10) for p in asked), engines)
    sampled = traces((sample(p, Sampling(0.8), seed=1, max_tokens=10) for p in asked), engines)
    best = traces(
        (best_of_n(p, BestOfN(3, Sampling(0.8)), seed=1, max_tokens=10) for p in asked), engines
    )
    for name, trace in refined.items():
        assert trace.base_text == sampled[name].text == best[name].base_text
        assert trace.base_reward == pytest.approx(sampled[name].reward, abs=1e-5)


NULL_ARMS = {
    "second": {"proposals": "second"},
    "random": {"proposals": "random"},
    "ranked": {"proposals": "ranked", "ranked": Ranked(beta=None, min_score=-5.0)},
}


@pytest.mark.parametrize("name", NULL_ARMS)
def test_null_arms_take_no_gradient_and_never_lower_the_reward(plain: Family, name: str):
    config = greedy_search(**NULL_ARMS[name])
    revised = 0
    for trace in drive((nabla(p, config, max_tokens=10) for p in prompts(6)), plain.engines()):
        assert (trace.cost.lm_backward, trace.cost.rm_backward) == (0, 0)
        assert trace.reward >= trace.base_reward
        rewards = [r.reward_after for r in trace.revisions if r.accepted]
        assert rewards == sorted(rewards)
        assert all(r.grad_norm == r.advantage == 0 for r in trace.revisions)
        revised += len(trace.revisions)
    assert revised > 10


def test_a_learning_rate_of_zero_only_resamples(plain: Family):
    """Same candidates, same draws, no gradient in them: with argmax resampling of a greedy
    rollout there is nothing to propose, with a warm one there is."""
    from nabla_core import DTO  # noqa: PLC0415

    engines = plain.engines()
    still = greedy_search(dto=DTO(learning_rate=0))
    warm = greedy_search(dto=DTO(learning_rate=0), resample=Sampling(1.0))
    assert not any(t.revisions for t in drive((nabla(p, still) for p in prompts(4)), engines))
    assert any(t.revisions for t in drive((nabla(p, warm) for p in prompts(4)), engines))


def test_the_same_seed_gives_the_same_trace_and_another_seed_another(plain: Family):
    engines = plain.engines()

    def run_with(seed: int) -> list[Any]:
        config = NablaConfig()
        found = traces((nabla(p, config, seed=seed, max_tokens=10) for p in prompts(4)), engines)
        return [decisions(found[p.id]) for p in prompts(4)]

    assert run_with(1) == run_with(1)
    assert run_with(1) != run_with(2)
