"""Settings that must not change results: each has to reproduce the traces of a reference run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from typing import Any

import pytest

from nabla_core import (
    DTO,
    GGRO,
    MCTS,
    Beam,
    BestOfN,
    Decoding,
    NablaConfig,
    Prompt,
    Ranked,
    Runtime,
    Sampling,
    Select,
    Steps,
    Trace,
    drive,
    flow,
)
from nabla_core.engines.loading import build_engines
from nabla_core.models.readers import Reader
from nabla_core.requests import Flow
from tests.bench.passes.batches import differences_of
from tests.core.reference import guide_of
from tests.core.tiny import Family, greedy_search, prompts
from tests.tolerance import REWARD, same_rewards

COUNT, SEED, LENGTH = 17, 11, 6


def search(**changes: Any) -> NablaConfig:
    return greedy_search(
        max_rollouts=2, dto=DTO(learning_rate=0.5, max_iters=5), select=Select(0.5), **changes
    )


METHODS = {
    "adam": search(),
    "sampled": search(rollout=Sampling(0.8, 0.95), resample=Sampling(0.5)),
    "argmax": search(rollout=Sampling(1.0), anchor="argmax"),
    "ranked": search(proposals="ranked", ranked=Ranked(beta=1.0)),
    "random": search(proposals="random"),
}
REFERENCE = Runtime(device="cpu", max_batch=7)


def traces(
    family: Family,
    config: NablaConfig | Decoding,
    runtime: Runtime = REFERENCE,
    *,
    two: bool = True,
    in_flight: int = 40,
    order: Sequence[int] = range(COUNT),
) -> dict[str, Trace]:
    decoding = config
    if isinstance(config, NablaConfig):
        decoding = Decoding(max_tokens=LENGTH, nabla=config)
    asked = prompts(COUNT)
    flows = (flow(asked[n], decoding, seed=SEED) for n in order)  # type: ignore[arg-type]
    engines = family.engines(runtime, two=two)
    return {t.prompt_id: t for t in drive(flows, engines, in_flight=in_flight)}


def discrete(trace: Trace, *, costs: bool) -> dict[str, Any]:
    """All of a trace that is no measured number."""
    record = asdict(trace)
    cost = record.pop("cost")
    for name in ("reward", "base_reward", "log_probabilities"):
        del record[name]
    record["revisions"] = [
        (r.position, r.tail_token_ids, r.from_token, r.from_text, r.to_text, r.accepted)
        for r in trace.revisions
    ]
    if costs:
        record["cost"] = {k: v for k, v in cost.items() if k not in ("seconds", "flops")}
    return record


def rewards(trace: Trace) -> list[float | None]:
    """All rewards of a trace, those of its revisions too."""
    return [trace.reward, trace.base_reward] + [
        reward for r in trace.revisions for reward in (r.reward_before, r.reward_after)
    ]


def predictions(trace: Trace) -> list[float | None]:
    """What LM and guide say of each revision, and the LM of the response."""
    said = [x for r in trace.revisions for x in (r.confidence, r.grad_norm, r.advantage)]
    said += trace.log_probabilities or ()
    return [nan if x is None else x for x in said]


def assert_same(
    found: dict[str, Trace], reference: dict[str, Trace], *, costs: bool = True
) -> None:
    assert sorted(found) == sorted(reference)
    for name, trace in found.items():
        assert discrete(trace, costs=costs) == discrete(reference[name], costs=costs)
        other = reference[name]
        assert same_rewards(rewards(trace), rewards(other))
        close = pytest.approx(predictions(other), rel=1e-3, abs=1e-3, nan_ok=True)
        assert predictions(trace) == close


@dataclass(frozen=True)
class Case:
    """A family, a method, and the traces of the reference run."""

    family: Family
    method: NablaConfig
    reference: dict[str, Trace]

    def same(self, runtime: Runtime = REFERENCE, *, costs: bool = True, **settings: Any) -> None:
        assert_same(
            traces(self.family, self.method, runtime, **settings), self.reference, costs=costs
        )


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, str], Case]:
    return {}


@pytest.fixture
def case(
    name: tuple[str, str], known: dict[tuple[str, str], Case], request: pytest.FixtureRequest
) -> Case:
    """The reference run of a method on a family, made once."""
    if name not in known:
        family, method = request.getfixturevalue(name[0]), METHODS[name[1]]
        reference = traces(family, method)
        revised = [r for t in reference.values() for r in t.revisions]
        assert len({r.accepted for r in revised}) == 2
        assert len(revised) > COUNT
        known[name] = Case(family, method, reference)
    return known[name]


def cases(*names: str) -> Any:
    """`plain adam` and the like; every method on the plain family by default."""
    chosen = [tuple(n.split()) for n in names] or [("plain", method) for method in METHODS]
    return pytest.mark.parametrize("name", chosen, ids=" ".join)


SOME = ("plain adam", "plain ranked")


@cases()
@pytest.mark.parametrize("size", [1, 16])
def test_batch_size(case: Case, size: int):
    case.same(replace(REFERENCE, max_batch=size))


@cases("grouped argmax", "grouped ranked")
@pytest.mark.parametrize("size", [1, 16])
def test_batch_size_of_other_models(case: Case, size: int):
    case.same(replace(REFERENCE, max_batch=size))


@pytest.mark.parametrize("guide", ["embedded", "embedded-head"])
def test_batch_size_of_the_shipped_models(guide: str):
    for row in differences_of(guide, 24):
        assert row["choices differ"] == 0
        assert row["largest difference"] <= REWARD


@cases(*SOME)
@pytest.mark.parametrize("in_flight", [1, 10, 96])
def test_prompts_in_flight(case: Case, in_flight: int):
    case.same(in_flight=in_flight)


@cases()
def test_order_of_the_prompts(case: Case):
    case.same(order=range(COUNT - 1, -1, -1))


@cases("plain sampled", "grouped argmax")
def test_neighbours(case: Case):
    """A prompt on its own gives the trace it gives among others."""
    chosen = [0, 7, 13]
    found = traces(case.family, case.method, order=chosen)
    assert_same(found, {f"p{n}": case.reference[f"p{n}"] for n in chosen})


SEARCHES = {
    "beam": Decoding(method="beam", beam=Beam(2, 2, Steps(tokens=2), rollout=Sampling(1.0))),
    "mcts": Decoding(method="mcts", mcts=MCTS(4, steps=Steps(tokens=2), rollout=Sampling(1.0))),
    "ggro": Decoding(method="ggro", ggro=GGRO(1.0, min_segment=2, refinements=3)),
}


@pytest.mark.parametrize("method", SEARCHES)
def test_other_searches_are_the_same_in_any_batch(plain: Family, method: str):
    decoding = replace(SEARCHES[method], max_tokens=LENGTH)
    some = range(8)
    reference = traces(plain, decoding, order=some)
    changed = [t for t in reference.values() if t.tokens != t.base_tokens]
    assert len(changed) > 2
    single = traces(plain, decoding, replace(REFERENCE, max_batch=1), order=some[::-1])
    assert_same(single, reference, costs=False)
    uncached = traces(plain, decoding, replace(REFERENCE, reuse=False, max_batch=16), order=some)
    assert_same(uncached, reference, costs=False)
    for name, trace in uncached.items():
        assert trace.cost.paper_calls == reference[name].cost.paper_calls
        assert trace.cost.flops > reference[name].cost.flops


def test_methods_side_by_side(plain: Family):
    """Requests with different settings share batches."""
    engines = plain.engines(REFERENCE)
    asked = prompts(8)
    labels = [(method, prompt) for prompt in asked for method in METHODS]

    def labelled(method: str, prompt: Prompt) -> Flow:
        trace = yield from flow(
            prompt, Decoding(max_tokens=LENGTH, nabla=METHODS[method]), seed=SEED
        )
        return replace(trace, prompt_id=f"{method} {trace.prompt_id}")

    together = {t.prompt_id: t for t in drive((labelled(*pair) for pair in labels), engines)}
    for method, config in METHODS.items():
        alone = traces(plain, config, order=range(8))
        found = {p.id: replace(together[f"{method} {p.id}"], prompt_id=p.id) for p in asked}
        # Rollouts of one prompt that start in one step share the reading of it.
        assert_same(found, alone, costs=False)


@cases("plain adam", "plain argmax", "plain ranked", "plain random", "grouped argmax")
def test_reuse_of_keys_and_values(case: Case):
    found = traces(case.family, case.method, replace(REFERENCE, reuse=False))
    assert_same(found, case.reference, costs=False)

    def paid(of: dict[str, Trace], name: str) -> int:
        return sum(getattr(t.cost, name) for t in of.values())

    # The same work in the paper's own count, more of it in tokens read.
    assert paid(found, "paper_calls") == paid(case.reference, "paper_calls")
    assert paid(found, "token_passes") > paid(case.reference, "token_passes")
    assert paid(found, "flops") > paid(case.reference, "flops")


@cases(*SOME)
@pytest.mark.parametrize("tokens", [1, 100])
def test_tokens_in_a_batch(case: Case, tokens: int):
    case.same(replace(REFERENCE, max_batch_tokens=tokens))


@cases("plain adam", "plain sampled", "plain ranked", "grouped argmax")
@pytest.mark.parametrize("ahead", [2, 4])
def test_speculation(case: Case, ahead: int):
    found = traces(case.family, replace(case.method, speculate=ahead))
    assert_same(found, case.reference, costs=False)
    for name, trace in found.items():
        # Rollouts that were not needed are counted too.
        assert trace.cost.rollouts >= case.reference[name].cost.rollouts
        assert case.reference[name].cost.rollouts == 1 + len(trace.revisions)
    assert sum(t.cost.rollouts for t in found.values()) > sum(
        t.cost.rollouts for t in case.reference.values()
    )


@pytest.mark.parametrize("method", ["adam", "ranked"])
def test_one_model_in_both_roles_equals_two_copies_of_it(plain: Family, method: str):
    twins = Family(plain.lm, plain.judge, plain.judge)
    alone = traces(plain, METHODS[method], two=False)
    engines = twins.engines(REFERENCE, two=False)
    # Another Reader around the same weights: scores and sweeps are not shared.
    guide = guide_of(engines)
    copy = Reader(guide.reader.rm, guide.reader.vocabulary, guide.lm.stop)
    separate = build_engines(guide.lm, guide.reader, copy, REFERENCE)
    decoding = Decoding(max_tokens=LENGTH, nabla=METHODS[method])
    flows = (flow(p, decoding, seed=SEED) for p in prompts(COUNT))
    found = {t.prompt_id: t for t in drive(flows, separate)}
    assert_same(found, alone, costs=False)


@pytest.mark.parametrize("size", [1, 16])
@pytest.mark.parametrize("method", ["greedy", "sample", "best_of_n", "majority"])
def test_baselines_at_every_batch_size(plain: Family, method: str, size: int):
    decoding = Decoding(method=method, max_tokens=LENGTH, best_of_n=BestOfN(3))  # type: ignore[arg-type]
    reference = traces(plain, decoding)
    found = traces(plain, decoding, replace(REFERENCE, max_batch=size))
    # Samples of a prompt that start in one step share the reading of it.
    assert_same(found, reference, costs=False)


def test_samples_of_one_prompt_differ_and_repeat(plain: Family):
    decoding = Decoding(max_tokens=LENGTH, nabla=METHODS["sampled"])
    asked = [Prompt.of("1+1", id="p", sample=n) for n in range(5)]

    def texts() -> list[str]:
        engines = plain.engines(REFERENCE)
        flows = (flow(p, decoding, seed=SEED) for p in asked)
        return [t.text for t in sorted(drive(flows, engines), key=lambda t: t.sample)]

    assert texts() == texts()
    assert len(set(texts())) > 2
