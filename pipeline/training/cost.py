"""What a training cost, as its card holds it. Nothing here imports torch or ray."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

# The key of a card and of a measurement.
COST = "cost"


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """FLOPs (of `nabla_core.models.flops`, the unit of traces) and time of a training.

    - `steps`: forward and backward passes of all optimiser steps, also those after the step that
      was chosen. What a crash made the training repeat is not counted twice.
    - `samples`: responses that the training drew itself, as RL does.
    - `measurements`: validation, by which the checkpoint is chosen.
    - `data`: what made the rows that were trained on, as they tell it, and a teacher's labels; None
      where they do not tell. Rows that serve several trainings count in each.
    - `seconds`: by the clock, of steps and measurements; None where nobody measured them.

    The models that a training starts and learns from have costs of their own.
    """

    steps: float
    samples: float = 0.0
    measurements: float
    data: float | None
    seconds: float | None

    @property
    def flops(self) -> float | None:
        """All of it; None where `data` is unknown."""
        if self.data is None:
            return None
        return self.steps + self.samples + self.measurements + self.data


def cost_of(card: Mapping[str, Any]) -> TrainingCost | None:
    """The cost in a card; None where it holds none (cards of earlier versions, and of other
    programs) or one of another form. Unknown is not 0."""
    found = card.get(COST)
    names = {f.name for f in fields(TrainingCost)}
    if not isinstance(found, Mapping) or found.keys() != names:
        return None
    optional = {name for name in ("data", "seconds") if found[name] is None}
    known = [value for name, value in found.items() if name not in optional]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        return None
    return TrainingCost(**found)


def total_of_data(sources: Iterable[Mapping[str, Any]]) -> float | None:
    """The FLOPs of all sources as cards describe them; None where one does not tell."""
    return total(source.get("flops") for source in sources)


def total(parts: Iterable[float | None]) -> float | None:
    """The sum; None where a part is not known."""
    found = list(parts)
    return None if None in found else math.fsum(filter(None, found))


@dataclass(kw_only=True)
class Meter:
    """Counts while a training runs. `known` is False where it goes on from a checkpoint that does
    not tell what it cost. `earlier`: seconds before that checkpoint."""

    data: float | None = None
    steps: float = 0.0
    measurements: float = 0.0
    earlier: float = 0.0
    known: bool = True
    _began: float = field(default_factory=time.monotonic)

    def resume(self, measurement: Mapping[str, Any]) -> None:
        """Go on from the last measurement of a checkpoint."""
        found = cost_of(measurement)
        self.known = found is not None
        if found is not None:
            self.steps, self.measurements = found.steps, found.measurements
            self.earlier = found.seconds or 0.0
        self._began = time.monotonic()

    def spent(self) -> dict[str, Any] | None:
        """The cost so far, ready for JSON; None where it is not known."""
        if not self.known:
            return None
        cost = TrainingCost(
            steps=self.steps,
            measurements=self.measurements,
            data=self.data,
            seconds=round(self.earlier + time.monotonic() - self._began, 1),
        )
        return asdict(cost)


def card_cost(history: Mapping[str, Any]) -> dict[str, Any] | None:
    """The cost of a whole training, for its card: that of the last measurement."""
    found: dict[str, Any] | None = history["measurements"][-1].get(COST)
    return found


def without_cost(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement for a card, which has the cost in a place of its own."""
    return {name: value for name, value in measurement.items() if name != COST}
