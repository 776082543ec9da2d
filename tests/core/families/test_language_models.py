"""LMs of many families against transformers alone: float32 on a CPU, up to 1e-4."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from nabla_core.config import NablaConfig, Objective, Sampling
from nabla_core.draws import DrawKey
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.guides.gradient import GradientGuide
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import Reader, Task
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Context, Response, Rollout
from tests.core.families import plain
from tests.core.families.catalogue import LANGUAGE_MODELS
from tests.core.families.tiny_models import (
    EOS,
    PROMPTS,
    SIZE,
    as_lm,
    as_reward_model,
    causal_lm,
    classifier,
)

# Some of these models compile a part of themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
LIKELIHOOD = NablaConfig(objective=Objective(nll_coeff=1.0, reward_coeff=0.0))
CONTEXTS = [Context("", p, (p, ()), (p, ())) for p in PROMPTS]


@cache
def reader() -> Reader:
    """A reward model, which a sweep needs; its reward has no weight here."""
    identical = VocabularyMap(torch.arange(SIZE), 1.0)
    return Reader(as_reward_model(classifier("llama")), identical, frozenset({EOS}))


def rolled_out(lm: LanguageModel, capacity: int) -> list[Response]:
    """Greedy responses of at most four tokens."""
    engine = RolloutEngine(lm, capacity, max_batch_tokens=1 << 20)
    for n, context in enumerate(CONTEXTS):
        key = DrawKey(0, "p", n, "rollout")
        engine.submit(n, Rollout(context, (), 4, Sampling(0), key, return_cache=True))
    replies: dict[int, Any] = {}
    while engine.waiting:
        replies |= dict(engine.step())
    return [replies[n].value for n in range(len(CONTEXTS))]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    size = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * size)


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_tokens_likelihoods_and_gradient_rows_are_those_of_transformers(kind: str):
    model = causal_lm(kind, **LANGUAGE_MODELS[kind])
    lm = as_lm(model)
    guide = GradientGuide(lm, reader(), judges=False, return_cache=False)
    expected = [plain.greedy(model, p, 4) for p in PROMPTS]
    scored = [plain.likelihood(model, p, y) for p, y in zip(PROMPTS, expected, strict=True)]
    assert len(set(expected)) > 1
    for batch in (8, 1):
        responses = rolled_out(lm, batch)
        assert [r.tokens for r in responses] == expected
        # The first time without a cache, the second behind that of the rollout.
        for start, cached in [(0, False), (1, True)]:
            for n in range(0, len(PROMPTS), batch):
                part = slice(n, n + batch)
                tasks = [
                    Task(c, r.tokens, min(start, len(r.tokens) - 1))
                    for c, r in zip(CONTEXTS[part], responses[part], strict=True)
                ]
                caches = [r.cache if cached else None for r in responses[part]]
                reads = guide.read(tasks, caches, LIKELIHOOD)
                for task, read, (each, rows) in zip(tasks, reads, scored[part], strict=True):
                    close(read.lm.likelihood.log_probability, each[task.start :])
                    places = range(task.start, len(task.tokens))
                    logits = lm.logits(read.lm.hidden)
                    chosen = [(read.guide_state, i) for i in places]
                    found = guide.rows(chosen, LIKELIHOOD.objective, logits)
                    close(-found, rows[task.start :])


@pytest.mark.parametrize(
    "kind", ["cohere", "cohere2", "gemma2", "gemma3_text", "granite", "hyperclovax", "nanochat"]
)
def test_what_is_done_to_outputs_makes_a_difference(kind: str):
    """Otherwise the test above would not notice that it was left out."""
    lm = as_lm(causal_lm(kind, **LANGUAGE_MODELS[kind]))
    hidden = lm.body(input_ids=torch.tensor([PROMPTS[0]])).last_hidden_state
    assert (lm.head(hidden) - lm.logits(hidden)).abs().max() > 0.5


@pytest.mark.parametrize("kind", ["gemma", "gemma2", "gemma3_text", "vaultgemma", "minicpm3"])
def test_the_scale_of_embeddings_makes_a_difference(kind: str):
    assert as_lm(causal_lm(kind, **LANGUAGE_MODELS[kind])).embedding_scale > 2
