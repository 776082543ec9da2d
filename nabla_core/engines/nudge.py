"""Nudges: uncertain positions, and the tokens that the guide prefers at one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nabla_core.engines.base import BatchEngine
from nabla_core.guides.base import Gradients, Guide
from nabla_core.proposals.positions import banned_ids, hidden_at, rows_at
from nabla_core.requests import Nudge, Nudges, Reply, Request, Result
from nabla_core.types import Cost


class NudgeEngine(BatchEngine):
    """Serves `Nudge` from what a sweep has kept: no model runs."""

    kinds: tuple[type[Request[Any]], ...] = (Nudge,)

    def __init__(self, guide: Guide, capacity: int, max_batch_tokens: int) -> None:
        super().__init__(capacity, max_batch_tokens)
        self._guide = guide

    @torch.no_grad()
    def answer(self, requests: Sequence[Nudge]) -> Sequence[Result]:
        return [self._nudge(request) for request in requests]

    def _nudge(self, request: Nudge) -> Reply[Nudges]:
        gradients: Gradients = request.gradients
        uncertain = gradients.lm.likelihood.entropy >= request.entropy_threshold
        positions = tuple((uncertain.nonzero().squeeze(-1) + gradients.start).tolist())
        if request.position is None:
            return Reply(Nudges(positions, (), ()))
        guide, tokens = self._guide, gradients.response.tokens
        logits = guide.lm.logits(hidden_at(gradients, [request.position]))
        state = gradients.guide_states[tokens]
        row = rows_at(guide, [(gradients, state, request.position)], logits)[0]
        # The row is that of a loss, so a token with a smaller entry is better.
        current = tokens[request.position]
        advantages = row[current] - row
        allowed = logits[0].masked_fill(banned_ids(guide), float("-inf"))
        allowed[current] = float("-inf")
        likeliest = allowed.topk(min(request.top_k, len(allowed)))
        likely = likeliest.indices[likeliest.values.isfinite()]
        # Stable: of equal advantages the likelier token comes first.
        best = likely[advantages[likely].argsort(descending=True, stable=True)]
        flops = guide.lm.shape.head(1) + guide.row_flops(gradients.config.objective)
        return Reply(
            Nudges(positions, tuple(best.tolist()), tuple(advantages[best].tolist())),
            Cost(flops=flops),
        )
