"""The candidates of left-to-right proposals: positions to optimise, and what each waits for."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.guides.base import Gradients
from nabla_core.proposals.positions import uncertain
from nabla_core.requests import Proposal
from nabla_core.types import Cost


@dataclass(eq=False)
class Candidate:
    """One position. `needs` is the hard sequence whose gradient it waits for; `selected` turns
    False where the gradient is too small; `proposal` is the outcome. `earlier` counts the
    candidates before it."""

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
    """The candidates of one response, in order, and what their extra sweeps cost so far."""

    candidates: list[Candidate]
    cost: Cost = field(default_factory=Cost)


def plan_of(gradients: Gradients) -> Plan:
    """The plan of a response, made when somebody first asks."""
    if gradients.plan is None:
        gradients.plan = Plan(
            [
                Candidate(i, hard_sequence(gradients, i, None), n)
                for n, i in enumerate(uncertain(gradients))
            ]
        )
    plan: Plan = gradients.plan
    return plan


def hard_sequence(gradients: Gradients, position: int, hard: int | None) -> tuple[int, ...]:
    """The tokens gradients are taken at when `position` is optimised and `hard` stands there
    (None: where the optimisation starts). Anchored on the rollout, the rest is the response;
    anchored on the argmax, what is ahead is the argmax of every position."""
    y = gradients.response.tokens
    if gradients.config.anchor == "rollout":
        return y if hard is None else (*y[:position], hard, *y[position + 1 :])
    top = gradients.lm.likelihood.top[position - gradients.start :].tolist()
    first = top[0] if hard is None else hard
    return (*y[:position], first, *top[1:])
