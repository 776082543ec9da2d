"""What all ways of proposing share: uncertain positions, banned tokens, rows of the guide."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nabla_core.config import Select
from nabla_core.guides.base import Gradients, Guide


def uncertain_positions(gradients: Gradients) -> list[int]:
    """Positions from the sweep's start on that pass the confidence and entropy tests of `Select`
    (paper, section 3: gradients are spent where the LM is unsure)."""
    likelihood, select = gradients.lm.likelihood, gradients.config.select
    passes = (likelihood.confidence <= select.confidence_threshold) & (
        likelihood.entropy >= select.entropy_threshold
    )
    positions: list[int] = (passes.nonzero().squeeze(-1) + gradients.start).tolist()
    return positions


def hidden_at(gradients: Gradients, positions: list[int]) -> Tensor:
    """Hidden states `[n, D]` of the LM that predicted the tokens at these positions."""
    return gradients.lm.hidden[[i - gradients.start for i in positions]]


def banned_ids(guide: Guide) -> Tensor:
    """bool `[V]`, True for ids that may not be proposed: no LM token, or unknown to the guide."""
    return (guide.vocabulary.ids < 0).to(guide.lm.device) | guide.lm.no_token


def rows_at(guide: Guide, chosen: list[tuple[Gradients, Any, int]], logits: Tensor) -> Tensor:
    """Rows fp32 `[n, V]` of the guide, one for each (gradients, guide state, position).

    All have the same objective. logits `[n, V]` are the LM's at these positions.
    """
    return guide.rows([(state, i) for _, state, i in chosen], chosen[0][0].config.objective, logits)


def norms(rows: Tensor, banned: Tensor, select: Select) -> Tensor:
    """L2 norm `[n]` of each row over the tokens that may be proposed; see `Select.norm`."""
    kept = rows[:, ~banned]
    if select.norm == "centred":
        kept = kept - kept.mean(-1, keepdim=True)
    return kept.norm(dim=-1)
