"""What a guide adds to greedy decoding, for `tests.bench.real_cost`.

Heads are untrained: costs do not depend on weights. No token stops a response, so both sides of a
ratio write the same number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from nabla_core import Runtime, Sampling
from nabla_core.draws import DrawKey
from nabla_core.engines.loading import head_guide_for
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.guide_training.value_head import new_value_head
from nabla_core.guides.decoding import DecodingGuide
from nabla_core.guides.value_head import ValueHeadGuide
from nabla_core.models.loading import LanguageModel, language_model
from nabla_core.requests import Context, Rollout
from nabla_core.types import Identity
from tests.bench.arms import GREEDY
from tests.bench.real_cost.models import Models, prompt_ids
from tests.bench.real_cost.timing import Plan, Row, compared, row

GUIDED = Sampling(temperature=0, beta=1.0)


def guided(models: Models, plan: Plan) -> Iterator[Row]:
    """Rollouts that a head guides, over the forward passes of LM and head on the same tokens; and
    rollouts that a value head guides, over greedy ones."""
    lm = replace(models.lm, stop=frozenset())
    other = deepcopy(models.plain_lm)
    head = head_guide_for(
        language_model(other, lm.tokenizer, Identity("head", "untrained")), lm, 1.0, Runtime()
    )
    value = new_value_head(lm, width=0, output="lm", seed=0).to(lm.table.dtype)
    value_head = ValueHeadGuide(lm, value, Identity("value head", "untrained"))
    for batch in plan.batches:
        prompts = prompt_ids(models, batch)
        with_head = _Rollouts(lm, head, prompts, plan.limit, GUIDED)
        plain = partial(_forward, (models.plain_lm, other), prompts, with_head.tokens)
        tokens = {"tokens": batch * plan.limit}
        yield row(f"guided batch {batch}", compared(with_head, plain, plan), **tokens)
        greedy = _Rollouts(lm, None, prompts, plan.limit, GREEDY)
        with_value = _Rollouts(lm, value_head, prompts, plan.limit, GUIDED)
        yield row(f"value head batch {batch}", compared(with_value, greedy, plan), **tokens)


@dataclass(kw_only=False)
class _Rollouts:
    """Called: rolls one response out for each prompt, of `limit` tokens, in one batch."""

    lm: LanguageModel
    guide: DecodingGuide | None
    prompts: Sequence[tuple[int, ...]]
    limit: int
    sampling: Sampling
    tokens: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self) -> None:
        engine = RolloutEngine(
            self.lm, len(self.prompts), 1 << 62, return_cache=False, guide=self.guide
        )
        for number, ids in enumerate(self.prompts):
            context = Context("", ids, (ids, ()), (ids, ()))
            key = DrawKey(0, str(number), 0, "rollout")
            engine.submit(number, Rollout(context, (), self.limit, self.sampling, key))
        found: dict[int, tuple[int, ...]] = {}
        while engine.waiting:
            for number, reply in engine.step():
                if isinstance(reply, Exception):
                    raise reply
                found[number] = reply.value.tokens
        # The same list at every call: the plain side reads what it holds then.
        self.tokens[:] = [found[number] for number in sorted(found)]


@torch.inference_mode()
def _forward(
    bodies: Sequence[Any], prompts: Sequence[tuple[int, ...]], tokens: Sequence[tuple[int, ...]]
) -> None:
    """Read prompts as one left-padded batch and the same tokens one at a time, with each model and
    its output layer."""
    width = max(map(len, prompts))
    padded = torch.tensor([(0,) * (width - len(ids)) + ids for ids in prompts])
    mask = torch.tensor([(0,) * (width - len(ids)) + (1,) * len(ids) for ids in prompts])
    written = torch.tensor(tokens)
    for model in bodies:
        _read(model, padded.to(model.device), mask.to(model.device), written.to(model.device))


def _read(model: Any, padded: Tensor, mask: Tensor, written: Tensor) -> None:
    cache, ids = DynamicCache(), padded
    for step in range(written.size(1)):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.size(1) :]
        model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        )
        ids = written[:, step : step + 1]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], -1)
