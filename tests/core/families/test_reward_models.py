"""Reward models of many families against transformers alone: float32 on a CPU, up to 1e-4."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from nabla_core.config import NablaConfig, Objective
from nabla_core.guides.gradient import GradientGuide
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import Reader, Task
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Context
from tests.core.families import plain
from tests.core.families.catalogue import REWARD_MODELS
from tests.core.families.test_language_models import close
from tests.core.families.tiny_models import (
    EOS,
    PAD,
    PROMPTS,
    SIZE,
    as_lm,
    as_reward_model,
    causal_lm,
    classifier,
)

# Some of these models compile a part of themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
REWARD = NablaConfig(objective=Objective(nll_coeff=0.0, reward_coeff=1.0))
# A response to each prompt, and what a template puts behind it: texts that end in words, in the
# end-of-text token and in pad.
ANSWERS: list[tuple[plain.Ids, plain.Ids]] = [
    ((5, 6, 7, EOS), ()),
    ((9,), (EOS,)),
    ((4, EOS, PAD), ()),
    ((5, 5, 3, 8, 9, 2, EOS), (3, 4)),
    ((EOS,), (EOS, PAD)),
    ((8, 9, PAD), ()),
    ((3, 3), (PAD,)),
    ((14, 2, 17, 5), (6,)),
]
TEXTS = [(before, y, after) for before, (y, after) in zip(PROMPTS, ANSWERS, strict=True)]


@cache
def language_model() -> LanguageModel:
    """An LM, which a sweep needs; its likelihood has no weight here."""
    return as_lm(causal_lm("llama"))


@pytest.mark.parametrize("kind", REWARD_MODELS)
def test_rewards_and_gradient_rows_are_those_of_transformers(kind: str):
    model = classifier(kind, **REWARD_MODELS[kind])
    reader = Reader(
        as_reward_model(model), VocabularyMap(torch.arange(SIZE), 1.0), frozenset({EOS})
    )
    guide = GradientGuide(language_model(), reader, judges=True, return_cache=True)
    expected = plain.rewards(model, TEXTS)
    assert len({round(value, 2) for value, _ in expected}) > 4
    for batch in (8, 1):
        caches: list[PrefixCache | None] = [None] * len(TEXTS)
        # The first time without a cache, the second behind that of the first.
        for start in (0, 1):
            found = []
            for n in range(0, len(TEXTS), batch):
                part = slice(n, n + batch)
                tasks = [
                    Task(Context("", p, (p, after), (p, after)), y, min(start, len(y) - 1), cache)
                    for (p, y, after), cache in zip(TEXTS[part], caches[part], strict=True)
                ]
                reads = guide.read(tasks, [None] * len(tasks), REWARD)
                found += [(task.start, read) for task, read in zip(tasks, reads, strict=True)]
            for (first, read), (value, rows) in zip(found, expected, strict=True):
                assert read.judged is not None
                assert read.judged.reward == pytest.approx(value, abs=1e-4)
                places = [(read.guide_state, first + i) for i in range(len(rows) - first)]
                logits = torch.zeros(len(places), SIZE)
                close(-guide.rows(places, REWARD.objective, logits), rows[first:])
            caches = [read.cache for _, read in found]
