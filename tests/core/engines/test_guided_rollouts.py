"""Guided rollouts against decoding from scratch, at every batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nabla_core import Ranked, Reward, Runtime, drive, load_engines, nabla
from nabla_core.config import Sampling
from nabla_core.draws import DrawKey, uniform
from nabla_core.embedded import task
from nabla_core.embedded.weights import model_location
from nabla_core.engines.base import Engines
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.models.loading import LanguageModel
from nabla_core.requests import Context, Render
from tests.core.engines.guided_requests import (
    LIMIT,
    SAMPLINGS,
    contexts_of,
    engine_of,
    expected,
    load,
    reference,
    request,
)
from tests.core.engines.rollout_requests import GREEDY, answers, language_model
from tests.core.guides.heads import engines_with, head_of, head_on
from tests.core.reference import serve
from tests.core.tiny import Family, greedy_search, prompts
from tests.oracle.guided import GuidedModels, guided_response
from tests.oracle.literal import sample_token


@pytest.fixture(scope="module")
def guided(family: Family, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engines, Any]:
    """Engines with a head, and the head as transformers loads it. That of `grouped` has another
    vocabulary than the LM, and a chat template."""
    folder = head_on(family, "judge", tmp_path_factory.mktemp("head"))
    return engines_with(family, folder), load(folder)


@pytest.mark.parametrize("capacity", [1, 8])
def test_guided_tokens_are_those_drawn_from_the_law_from_scratch(
    family: Family, guided: tuple[Engines, Any], capacity: int
):
    """Greedy and sampled, several betas and none in one batch."""
    engines, head = guided
    guide = head_of(engines)
    engine = RolloutEngine(guide.lm, capacity, 1 << 20, guide=guide)
    asked = [
        request(context, sampling)
        for context, sampling in zip(contexts_of(engines, len(SAMPLINGS)), SAMPLINGS, strict=True)
    ]
    if capacity > 1:
        asked += [replace(a, sampling=s) for a, s in zip(asked, reversed(SAMPLINGS), strict=True)]
    found = answers(engine, asked)
    assert [r.value.tokens for r in found] == [expected(family, guide, head, a) for a in asked]
    # The guide changes what is drawn.
    alone = answers(engine, [replace(a, sampling=replace(a.sampling, beta=None)) for a in asked])
    changed = [f.value.tokens != a.value.tokens for f, a in zip(found, alone, strict=True)]
    assert not any(c for c, a in zip(changed, asked, strict=True) if a.sampling.beta is None)
    assert sum(changed) >= 3


def test_a_guided_row_pays_for_the_head_and_another_one_does_not(plain: Family, tmp_path: Path):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide = head_of(engines)
    contexts = contexts_of(engines, 2)
    both = [request(contexts[0], Sampling(0, beta=0.5)), request(contexts[1], GREEDY)]
    engine = RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)
    led, plain_row = answers(engine, both)
    (alone,) = answers(RolloutEngine(guide.lm, 8, 1 << 20), both[1:])
    assert replace(plain_row.cost, seconds=0) == replace(alone.cost, seconds=0)
    new, before = len(led.value.tokens), len(contexts[0].guide[0])
    assert (led.cost.rollouts, led.cost.generated_tokens, led.cost.paper_calls) == (1, new, new)
    assert (led.cost.lm_forward, led.cost.rm_forward) == (1, 1)
    # LM and head each read the prompt but for its last token, then one token a step.
    assert led.cost.token_passes == 2 * (before - 1 + new)
    shapes = [guide.lm.shape, guide.head.shape]
    reads = [s.forward(before - 1 + new) + s.head(new) for s in shapes]
    assert led.cost.flops == pytest.approx(sum(reads))


def test_continuing_from_a_cache_reads_nothing_again(family: Family, guided: tuple[Engines, Any]):
    engines, head = guided
    guide = head_of(engines)
    engine = RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)
    sampling = Sampling(0, beta=0.5)
    contexts = contexts_of(engines)
    first = answers(engine, [request(c, sampling, return_cache=True) for c in contexts])
    asked = []
    for context, reply in zip(contexts, first, strict=True):
        tokens = reply.value.tokens
        prefix = (*tokens[: len(tokens) // 2], 7)
        asked.append(request(context, sampling, prefix, reuse=reply.value.cache, return_cache=True))
    found = answers(engine, asked)
    assert [r.value.tokens for r in found] == [expected(family, guide, head, a) for a in asked]
    assert all(r.cost.lm_forward == r.cost.rm_forward == 0 for r in found)
    assert all(r.cost.token_passes == 2 * r.cost.generated_tokens for r in found)
    # A response that no guide has read gives no cache of it: the head reads the prefix now.
    alone = answers(engine, [request(c, GREEDY, return_cache=True) for c in contexts])
    mixed = [
        replace(a, reuse=r.value.cache, prefix=(7,)) for a, r in zip(asked, alone, strict=True)
    ]
    found = answers(engine, mixed)
    assert [r.value.tokens for r in found] == [expected(family, guide, head, a) for a in mixed]
    assert all((r.cost.lm_forward, r.cost.rm_forward) == (0, 1) for r in found)


def test_rows_join_and_leave_a_guided_batch(plain: Family, tmp_path: Path):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide, head = head_of(engines), load(tmp_path)
    contexts = contexts_of(engines, 11)
    asked = [
        replace(request(c, SAMPLINGS[n % len(SAMPLINGS)]), max_tokens=1 + n % 7)
        for n, c in enumerate(contexts)
    ]
    engine = RolloutEngine(guide.lm, 4, 1 << 20, guide=guide)
    found = answers(engine, asked)
    assert [r.value.tokens for r in found] == [expected(plain, guide, head, a) for a in asked]


@dataclass
class Layer:
    """A guide without a model of its own: a layer on the LM's last hidden state."""

    lm: LanguageModel
    weight: Tensor
    reader = None

    def next_advantages(self, hidden: Tensor) -> Tensor:
        return hidden @ self.weight

    def next_flops(self) -> float:
        return 2.0 * self.weight.numel()


def test_a_guide_on_the_lms_own_hidden_state_needs_no_second_pass(plain: Family):
    lm, raw = language_model(plain), plain.raw("lm")
    torch.manual_seed(0)
    layer = Layer(lm, torch.randn(lm.shape.hidden, lm.head.out_features))
    engines = plain.engines()
    asked = [
        request(c, s) for c, s in zip(contexts_of(engines, len(SAMPLINGS)), SAMPLINGS, strict=True)
    ]
    found = answers(engine_of(layer), asked)
    unguided = [n for n, a in enumerate(asked) if a.sampling.beta is None]
    alone = answers(RolloutEngine(lm, 8, 1 << 20), [asked[n] for n in unguided])
    for asking, reply in zip(asked, found, strict=True):
        y: list[int] = []
        while len(y) < LIMIT and y[-1:] != [1]:
            with torch.no_grad():
                out = raw(torch.tensor([[*asking.context.lm, *y]]), output_hidden_states=True)
            law = out.logits[0, -1]
            p = law.softmax(-1)
            law[p < asking.sampling.min_p * p.max()] = float("-inf")
            if asking.sampling.beta is not None:
                law = law + out.hidden_states[-1][0, -1] @ layer.weight / asking.sampling.beta
            y.append(sample_token(law, asking.sampling, uniform(asking.key, len(y))))
        assert reply.value.tokens == tuple(y)
        assert reply.cost.rm_forward == 0
    assert found[0].cost.token_passes == len(asked[0].context.lm) - 1 + len(found[0].value.tokens)
    assert [replace(found[n].cost, seconds=0, lm_forward=0) for n in unguided] == [
        replace(r.cost, seconds=0, lm_forward=0) for r in alone
    ]


TAILS = Sampling(0.7, beta=0.5)


def guided_rollout(
    models: GuidedModels, context: Context, prompt_id: str, prefix: Sequence[int], number: int
) -> tuple[int, ...]:
    """Rollout number `number` of a search with seed 4."""
    key = DrawKey(4, prompt_id, 0, f"rollout {number}")
    return guided_response(models, context.lm, prefix, sampling=TAILS, key=key, limit=8)


@pytest.mark.parametrize("reuse", [True, False])
def test_base_and_tails_of_a_search_are_guided(
    family: Family, guided: tuple[Engines, Any], reuse: bool, tmp_path: Path
):
    engines, head = guided
    guide = head_of(engines)
    if not reuse:
        engines = engines_with(family, head_on(family, "judge", tmp_path), reuse=False)
    config = greedy_search(
        proposals="ranked",
        ranked=Ranked(beta=0.5, min_score=-3.0),
        rollout=TAILS,
        max_rollouts=3,
    )
    asked = prompts(5)
    contexts = dict(zip((p.id for p in asked), contexts_of(engines, 5), strict=True))
    flows = (nabla(p, config, seed=4, max_tokens=8) for p in asked)
    revised = 0
    for trace in drive(flows, engines):
        context = contexts[trace.prompt_id]
        response = partial(
            guided_rollout, reference(family, guide, head, context), context, trace.prompt_id
        )
        y = response((), 0)
        assert trace.base_tokens == y
        for number, revision in enumerate(trace.revisions, 1):
            new = response((*y[: revision.position], revision.to_token), number)
            assert revision.tail_token_ids == new[revision.position :]
            y = new if revision.accepted else y
            revised += 1
        assert trace.tokens == y
    assert revised > 5


def test_the_embedded_head_decodes_as_from_scratch():
    """The models that this package ships."""
    engines = load_engines("embedded", Reward(guide="embedded-head"), Runtime(max_batch=8))
    guide = head_of(engines)
    raw = [
        load(Path(model_location(*name)))
        for name in (("embedded", "lm"), ("embedded-head", "guide"))
    ]
    texts = task.prompts(4, seed=0, split="test")
    contexts = serve(engines, [Render(p) for p in texts])
    for sampling in (Sampling(0, beta=0.25), Sampling(1.0, beta=0.5)):
        asked = [replace(request(c, sampling), max_tokens=20) for c in contexts]
        found = answers(engine_of(guide), asked)
        for asking, reply in zip(asked, found, strict=True):
            models = GuidedModels(
                raw[0],
                raw[1],
                guide.lm.vocabulary,
                guide.vocabulary.ids.tolist(),
                lambda tokens, c=asking.context: list(c.guide[0]),  # type: ignore[misc]
                stop=next(iter(guide.lm.stop)),
            )
            assert reply.value.tokens == guided_response(
                models, asking.context.lm, (), sampling=sampling, key=asking.key, limit=20
            )
