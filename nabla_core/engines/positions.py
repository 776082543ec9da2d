"""What every way of proposing needs to know of a swept response's positions."""

from __future__ import annotations

import torch
from torch import Tensor

from nabla_core.config import Objective, Select
from nabla_core.engines.guide import gradient_rows
from nabla_core.engines.sweeps import Gradients, Guide, Slopes


def uncertain(gradients: Gradients) -> list[int]:
    """Positions from the sweep's start on that pass the confidence and entropy tests."""
    says, select = gradients.lm.says, gradients.config.select
    passes = (says.confidence <= select.confidence_threshold) & (
        says.entropy >= select.entropy_threshold
    )
    found: list[int] = (passes.nonzero().squeeze(-1) + gradients.start).tolist()
    return found


def hidden_at(gradients: Gradients, positions: list[int]) -> Tensor:
    """`[n, D]` hidden states that predicted the tokens at these positions."""
    return gradients.lm.hidden[[i - gradients.start for i in positions]]


def banned_ids(guide: Guide) -> Tensor:
    """bool `[V]`: ids that are no LM token, or that the guide has no token for."""
    ids = guide.reader.vocabulary.ids
    banned = ids < 0
    banned[guide.lm.vocabulary :] = True
    return banned.to(guide.lm.device)


def rows_at(
    guide: Guide,
    chosen: list[tuple[Gradients, Slopes, int]],
    logits: Tensor,
) -> Tensor:
    """Gradient rows fp32 `[n, V]` at one position each, of the hard sequences the slopes
    belong to. All with the same objective. logits `[n, V]` predicted the positions."""
    rm = torch.stack([s.rm[i - s.start] for _, s, i in chosen])
    lm = None
    if chosen[0][1].lm is not None:
        lm = torch.stack([s.lm[i - s.start] for _, s, i in chosen if s.lm is not None])
    return gradient_rows(guide.lm, guide.reader, chosen[0][0].config.objective, rm, lm, logits)


def row_flops(guide: Guide, objective: Objective) -> float:
    """Operations that form one gradient row: a product with each table that has a say."""
    likelihood = guide.lm.table.numel() if objective.nll_coeff else 0
    return 2.0 * (guide.reader.rm.table.numel() + likelihood)


def norms(rows: Tensor, banned: Tensor, select: Select) -> Tensor:
    """L2 norm of each row over the tokens that may be proposed, `[n]`; `centred` takes the
    row's mean off first."""
    kept = rows[:, ~banned]
    if select.norm == "centred":
        kept = kept - kept.mean(-1, keepdim=True)
    return kept.norm(dim=-1)
