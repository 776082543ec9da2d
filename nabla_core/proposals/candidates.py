"""Candidates of left-to-right proposals: the positions to optimise, and the state of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.guides.base import Gradients
from nabla_core.proposals.positions import uncertain_positions
from nabla_core.requests import Proposal
from nabla_core.types import Cost


@dataclass(eq=False)
class Candidate:
    """One position that passed the confidence test.

    `needs`: the hard sequence at which its next gradient is taken. `selected` turns False where
    the gradient is too small. `proposal` is the result. `earlier`: the number of candidates
    before it in the response.
    """

    position: int
    needs: tuple[int, ...]
    earlier: int
    grad_norm: float = 0.0
    selected: bool = True
    proposal: Proposal | None = None

    @property
    def done(self) -> bool:
        return self.proposal is not None or not self.selected

    @property
    def changes(self) -> bool:
        return self.proposal is not None and self.proposal.to_token != self.proposal.from_token


@dataclass(eq=False)
class Plan:
    """The candidates of one response, in order of position. `cost` is what was computed for
    them since the last reply."""

    candidates: list[Candidate]
    cost: Cost = field(default_factory=Cost)


def plan_of(gradients: Gradients) -> Plan:
    """The plan of a response; the first call makes it."""
    if gradients.plan is None:
        gradients.plan = Plan(
            [
                Candidate(i, hard_sequence(gradients, i, None), n)
                for n, i in enumerate(uncertain_positions(gradients))
            ]
        )
    plan: Plan = gradients.plan
    return plan


def hard_sequence(gradients: Gradients, position: int, hard: int | None) -> tuple[int, ...]:
    """The tokens at which gradients are taken while `position` is optimised and its hard token is
    `hard` (None: the token that the optimisation starts from).

    `anchor: rollout`: all other tokens are those of the response. `anchor: argmax`: tokens from
    `position` on are the argmax of the LM at each position, as in the authors' release.
    """
    y = gradients.response.tokens
    if gradients.config.anchor == "rollout":
        return y if hard is None else (*y[:position], hard, *y[position + 1 :])
    top = gradients.lm.likelihood.top[position - gradients.start :].tolist()
    first = top[0] if hard is None else hard
    return (*y[:position], first, *top[1:])
