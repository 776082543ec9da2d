"""The null arms: the same positions as left-to-right proposals, revised without a gradient.

They show what propose-and-accept does by itself, so every comparison has them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nabla_core.draws import uniform
from nabla_core.guides.base import Guide
from nabla_core.models.forward import BLOCK
from nabla_core.proposals.positions import banned_ids, hidden_at, uncertain_positions
from nabla_core.requests import Proposal, Propose, Reply, Result
from nabla_core.types import Cost


def null_arm_proposals(guide: Guide, requests: Sequence[Propose]) -> list[Result]:
    """Left to right over uncertain positions, each changed to the LM's most probable other token
    (`second`), or to any other token with equal probability (`random`)."""
    places = [_open_positions(request) for request in requests]
    asked = [(r, i) for r, positions in zip(requests, places, strict=True) for i in positions]
    banned = banned_ids(guide)
    second = bool(requests) and requests[0].gradients.config.proposals == "second"
    others = iter(_second(guide, asked, banned) if second else _random(asked, banned))
    # The LM's logits are formed once for each position, and not at all where all tokens are alike.
    flops = guide.lm.shape.head(1) if second else 0.0
    return [
        Reply(
            [_proposal(request, i, next(others)) for i in positions],
            Cost(flops=flops * len(positions)),
        )
        for request, positions in zip(requests, places, strict=True)
    ]


def _open_positions(request: Propose) -> list[int]:
    """The positions to be changed: uncertain ones that are not committed."""
    uncertain = uncertain_positions(request.gradients)
    return [i for i in uncertain if i >= request.boundary][: request.count]


def _second(guide: Guide, asked: Sequence[tuple[Propose, int]], banned: Tensor) -> Iterator[int]:
    """For each (request, position) the LM's most probable token but that of the response."""
    # A block of positions at a time, of many responses if they have few each.
    size = max(1, BLOCK // len(banned))
    for first in range(0, len(asked), size):
        block = asked[first : first + size]
        hidden = torch.cat([hidden_at(request.gradients, [i]) for request, i in block])
        logits = guide.lm.logits(hidden).masked_fill(banned, float("-inf"))
        own = torch.tensor([_token(request, i) for request, i in block], device=logits.device)
        # A token is no replacement for itself.
        yield from logits.scatter_(-1, own[:, None], float("-inf")).argmax(-1).tolist()


def _random(asked: Sequence[tuple[Propose, int]], banned: Tensor) -> Iterator[int]:
    """For each (request, position) a token that may be proposed, but that of the response."""
    allowed = (~banned).nonzero().squeeze(-1).tolist()
    for request, i in asked:
        own = _token(request, i)
        before = bisect_left(allowed, own)
        is_allowed = before < len(allowed) and allowed[before] == own
        number = int(uniform(request.key, i) * (len(allowed) - 1 if is_allowed else len(allowed)))
        # Those from its own place on are one further back without it.
        yield allowed[number + 1 if is_allowed and number >= before else number]


def _token(request: Propose, position: int) -> int:
    return request.gradients.response.tokens[position]


def _proposal(request: Propose, position: int, to_token: int) -> Proposal:
    gradients = request.gradients
    confidence = gradients.lm.likelihood.confidence
    return Proposal(
        position=position,
        from_token=_token(request, position),
        to_token=to_token,
        confidence=float(confidence[position - gradients.start]),
    )
