"""Proposals: which token to change next, from what is kept of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nabla_core.engines.base import BatchEngine, answer_by_group
from nabla_core.guides.base import Guide
from nabla_core.proposals.left_to_right import LeftToRight
from nabla_core.proposals.null_arms import null_arm_proposals
from nabla_core.proposals.ranked import ranked
from nabla_core.requests import Propose, Request, Result


class ProposeEngine(BatchEngine):
    """Serves `Propose`, in the way that the config of its sweep names."""

    kinds: tuple[type[Request[Any]], ...] = (Propose,)

    def __init__(self, guide: Guide, capacity: int, max_batch_tokens: int) -> None:
        super().__init__(capacity, max_batch_tokens)
        self._guide = guide
        self._left_to_right = LeftToRight(guide)

    def size(self, request: Propose) -> int:
        """The tokens of one more sweep, as is needed where an argmax moves."""
        return len(request.gradients.context.lm) + len(request.gradients.response.tokens)

    @torch.no_grad()
    def answer(self, requests: Sequence[Propose]) -> Sequence[Result]:
        # Left to right enables gradients itself, for the sweeps of moved argmaxes.
        return answer_by_group(
            requests, lambda request: request.gradients.config.proposals, self._propose
        )

    def _propose(self, proposals: str, requests: Sequence[Propose]) -> list[Result]:
        match proposals:
            case "left_to_right":
                return self._left_to_right.propose(requests)
            case "ranked":
                return ranked(self._guide, requests)
            case _:
                return null_arm_proposals(self._guide, requests)
