"""The null arms: the same positions as left-to-right proposals, revised without a gradient.

They show what propose-and-accept does by itself, so every comparison has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nabla_core.draws import uniform
from nabla_core.guides.base import Guide
from nabla_core.proposals.positions import banned_ids, hidden_at, uncertain_positions
from nabla_core.requests import Proposal, Propose, Reply, Result
from nabla_core.types import Cost


def null_arm_proposals(guide: Guide, requests: Sequence[Propose]) -> list[Result]:
    """Left to right over uncertain positions, each changed to the LM's most probable other token
    (`second`), or to any other token with equal probability (`random`)."""
    replies = [_proposals(guide, request) for request in requests]
    # The LM's logits are formed once for each position.
    return [Reply(changes, Cost(flops=guide.lm.shape.head(len(changes)))) for changes in replies]


def _proposals(guide: Guide, request: Propose) -> list[Proposal]:
    gradients = request.gradients
    open_positions = [i for i in uncertain_positions(gradients) if i >= request.boundary]
    positions = open_positions[: request.count]
    if not positions:
        return []
    tokens = [gradients.response.tokens[i] for i in positions]
    logits = guide.lm.logits(hidden_at(gradients, positions))
    logits = logits.masked_fill(banned_ids(guide), float("-inf"))
    # A token is no replacement for itself.
    logits[torch.arange(len(tokens)), tokens] = float("-inf")
    if gradients.config.proposals == "second":
        others = logits.argmax(-1).tolist()
    else:
        allowed = [row.isfinite().nonzero().squeeze(-1).tolist() for row in logits]
        others = [
            ids[int(uniform(request.key, i) * len(ids))]
            for i, ids in zip(positions, allowed, strict=True)
        ]
    confidence = gradients.lm.likelihood.confidence
    return [
        Proposal(
            position=i,
            from_token=y,
            to_token=b,
            confidence=float(confidence[i - gradients.start]),
        )
        for i, y, b in zip(positions, tokens, others, strict=True)
    ]
