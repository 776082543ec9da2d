"""How far a guide moves the LM at each beta, and the beta that moves it by a given amount.

Judges count in units of any size, so a beta that suits one is far too weak or too strong for
another. The divergence of the guided law q ~ p exp(A / beta) from the LM's law p has no such unit.
It is measured position by position on responses of the LM, which is where guided decoding starts.
Responses of the guided law may have another mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective, Ranked
from nabla_core.engines.base import Engines
from nabla_core.errors import PromptError
from nabla_core.guide_training.examples import Record
from nabla_core.guides.base import Gradients, Guide
from nabla_core.models.forward import BLOCK
from nabla_core.proposals.positions import banned_ids, rows_at
from nabla_core.requests import Render, RequestGenerator, Response, Sweep, ask
from nabla_core.scheduler import drive
from nabla_core.types import Cost

# Of the reward alone: what the likelihood adds to a gradient is the LM's own law once more.
_ADVANTAGES = NablaConfig(
    proposals="ranked", ranked=Ranked(beta=1.0), objective=Objective(nll_coeff=0.0)
)
# Strengths that are tried, as factors of a first guess.
_STEPS = tuple(2.0**k for k in range(-5, 6))
_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """Means over positions: at `beta` (judge's units per nat) the guided law diverges by `kl` nats
    from the LM's, and the guide predicts `gain` (judge's units) of it for one token.

    `positions` is the number of positions that were measured.
    """

    beta: float
    kl: float
    gain: float
    positions: int


def strength(
    guide: Guide, engines: Engines, records: Sequence[Record], *, kl: float, positions: int
) -> Strength | None:
    """The beta at which the mean divergence of a token is `kl`, on the first `positions` positions
    of the responses in `records`; those that cannot be read are left out. `engines` are those of
    the guide.

    None where no beta reaches that divergence: the guide predicts no differences, or too few.
    """
    parts = list(_parts(list(_swept(engines, records, positions)), positions))
    count = sum(end for _, end in parts)
    # For small A / beta the divergence is the variance of A under p over 2 beta^2.
    variance = sum(_variance(*law) for law in _laws(guide, parts))
    if not variance > 0:
        return None
    guess = math.sqrt(variance / count / (2 * kl))
    betas = [guess * step for step in _STEPS]
    totals = torch.zeros(len(betas), 2, dtype=torch.float64)
    for law in _laws(guide, parts):
        totals += torch.tensor([_tilted(*law, beta) for beta in betas], dtype=torch.float64)
    points = list(zip(betas, *(totals / count).T.tolist(), strict=True))
    for (low, kl_low, gain_low), (high, kl_high, gain_high) in pairwise(points):
        # The divergence falls as beta rises.
        if kl_low >= kl > kl_high > 0:
            share = math.log(kl_low / kl) / math.log(kl_low / kl_high)
            gain = gain_low + share * (gain_high - gain_low)
            return Strength(beta=low * (high / low) ** share, kl=kl, gain=gain, positions=count)
    return None


@dataclass
class _Swept:
    """A response as LM and guide read it, and its number."""

    number: int
    gradients: Gradients
    cost: Cost = field(default_factory=Cost)


def _swept(engines: Engines, records: Sequence[Record], positions: int) -> Iterator[Gradients]:
    """The sweeps of records, in their order, until they have so many positions."""
    taken: list[Record] = []
    for record in records:
        if sum(len(one.tokens) for one in taken) >= positions:
            break
        taken.append(record)
    flows = (_sweep(number, record) for number, record in enumerate(taken))
    found = drive(flows, engines, in_flight=_IN_FLIGHT, failed=_unless_prompt_error)
    # Flows finish in any order, and the last response is cut.
    yield from (one.gradients for one in sorted(found, key=lambda one: one.number))


def _sweep(number: int, record: Record) -> RequestGenerator[_Swept]:
    context = yield from ask(Render(record.prompt))
    swept = yield from ask(Sweep(context, Response(record.tokens, "stop"), 0, _ADVANTAGES))
    return _Swept(number, swept.gradients)


def _unless_prompt_error(number: int, error: Exception) -> None:
    if not isinstance(error, PromptError):
        raise error


def _parts(swept: Sequence[Gradients], positions: int) -> Iterator[tuple[Gradients, int]]:
    """The responses and how many of their first positions count, `positions` in all."""
    for gradients in swept:
        count = min(len(gradients.response.tokens), positions)
        if count:
            yield gradients, count
        positions -= count


@torch.no_grad()
def _laws(guide: Guide, parts: Sequence[tuple[Gradients, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The LM's log-probabilities and the advantages, both `[n, V]`, a block of positions at a time;
    0 for ids that are no token or that the guide does not know."""
    banned = banned_ids(guide)
    size = max(1, BLOCK // guide.lm.head.out_features)
    for gradients, count in parts:
        state = gradients.guide_states[gradients.response.tokens]
        for first in range(0, count, size):
            places = range(first, min(first + size, count))
            logits = guide.lm.logits(gradients.lm.hidden[places.start : places.stop])
            # Rows are those of a loss.
            rows = rows_at(guide, [(gradients, state, i) for i in places], logits)
            yield logits.log_softmax(-1), (-rows).masked_fill(banned, 0.0)


def _variance(log_p: Tensor, advantages: Tensor) -> float:
    """The sum over positions of the variance of the advantage of a token that the LM draws."""
    p = log_p.exp()
    means = (p * advantages).sum(-1, keepdim=True)
    return float((p * (advantages - means).square()).sum(dtype=torch.float64))


def _tilted(log_p: Tensor, advantages: Tensor, beta: float) -> tuple[float, float]:
    """Sums over positions of KL(q || p) and of E_q[A] - E_p[A], with q ~ p exp(A / beta)."""
    log_q = (log_p + advantages / beta).log_softmax(-1)
    q = log_q.exp()
    # What is never drawn adds nothing; its log-probabilities may be infinite.
    kl = torch.where(q > 0, q * (log_q - log_p), 0.0)
    gain = (q - log_p.exp()) * advantages
    return float(kl.sum(dtype=torch.float64)), float(gain.sum(dtype=torch.float64))
