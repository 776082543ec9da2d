"""Requests of guided rollouts, and what they must give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nabla_core.config import Sampling
from nabla_core.draws import DrawKey
from nabla_core.engines.base import Engines
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.guides.head import HeadGuide
from nabla_core.requests import Context, Render, Rollout
from tests.core.reference import serve
from tests.core.tiny import Family, prompts
from tests.oracle.guided import GuidedModels, guided_response

LIMIT = 10
SAMPLINGS = [
    Sampling(0, beta=1.0),
    Sampling(0, beta=0.2),
    Sampling(1.0, beta=0.5),
    Sampling(0.8, 0.9, 20, beta=0.3),
    Sampling(0),
    Sampling(1.0),
    Sampling(0, beta=0.2, min_p=0.5),
    Sampling(1.0, min_p=0.3),
]


def load(folder: Path) -> Any:
    return Family(folder, folder, folder).raw("lm")


def reference(family: Family, guide: HeadGuide, head: Any, context: Context) -> GuidedModels:
    return GuidedModels(
        lm=family.raw("lm"),
        head=head,
        vocabulary=guide.lm.vocabulary,
        head_ids=guide.vocabulary.ids.tolist(),
        before=lambda tokens: list(context.guide[0]),
        stop=1,
    )


def contexts_of(engines: Engines, count: int = 6) -> list[Context]:
    found: list[Context] = serve(engines, [Render(p) for p in prompts(count)])
    return found


def request(
    context: Context, sampling: Sampling, prefix: Sequence[int] = (), **more: Any
) -> Rollout:
    key = DrawKey(0, context.prompt_id, 0, "rollout 0")
    return Rollout(context, tuple(prefix), LIMIT, sampling, key, **more)


def expected(family: Family, guide: HeadGuide, head: Any, asked: Rollout) -> tuple[int, ...]:
    if asked.sampling.beta is None:  # a head of zeros
        asked = replace(asked, sampling=replace(asked.sampling, beta=1.0))
        head = load_zeros(head)
    return guided_response(
        reference(family, guide, head, asked.context),
        asked.context.lm,
        asked.prefix,
        sampling=asked.sampling,
        key=asked.key,
        limit=asked.max_tokens,
    )


def load_zeros(head: Any) -> Any:
    return lambda input_ids: type("Out", (), {"logits": torch.zeros_like(head(input_ids).logits)})


def engine_of(guide: Any) -> RolloutEngine:
    return RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)
