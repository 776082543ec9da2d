"""What every way of proposing needs to know of a swept response's positions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nabla_core.config import Objective, Select
from nabla_core.guides.base import Gradients, Guide


def uncertain(gradients: Gradients) -> list[int]:
    """Positions from the sweep's start on that pass the confidence and entropy tests."""
    likelihood, select = gradients.lm.likelihood, gradients.config.select
    passes = (likelihood.confidence <= select.confidence_threshold) & (
        likelihood.entropy >= select.entropy_threshold
    )
    found: list[int] = (passes.nonzero().squeeze(-1) + gradients.start).tolist()
    return found


def hidden_at(gradients: Gradients, positions: list[int]) -> Tensor:
    """`[n, D]` hidden states that predicted the tokens at these positions."""
    return gradients.lm.hidden[[i - gradients.start for i in positions]]


def banned_ids(guide: Guide) -> Tensor:
    """bool `[V]`: ids that are no LM token, or that the guide has no token for."""
    ids = guide.vocabulary.ids
    banned = ids < 0
    banned[guide.lm.vocabulary :] = True
    return banned.to(guide.lm.device)


def rows_at(guide: Guide, chosen: list[tuple[Gradients, Any, int]], logits: Tensor) -> Tensor:
    """The guide's rows fp32 `[n, V]` at one position each, of the hard sequences whose worth
    is given. All with the same objective. logits `[n, V]` predicted the positions."""
    return guide.rows([(w, i) for _, w, i in chosen], chosen[0][0].config.objective, logits)


def row_flops(guide: Guide, objective: Objective) -> float:
    """Operations that form one row."""
    return guide.row_flops(objective)


def norms(rows: Tensor, banned: Tensor, select: Select) -> Tensor:
    """L2 norm of each row over the tokens that may be proposed, `[n]`; `centred` takes the
    row's mean off first."""
    kept = rows[:, ~banned]
    if select.norm == "centred":
        kept = kept - kept.mean(-1, keepdim=True)
    return kept.norm(dim=-1)
