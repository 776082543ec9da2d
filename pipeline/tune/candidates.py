"""The candidates of a tuning run: every combination of the values in the grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from nabla_core.config import Decoding
from pipeline.tune.config import Grid


@dataclass(frozen=True)
class Candidate:
    """Settings of the search to try: as overrides of a config and as the decoding that they give.
    `gradient`: whether proposals use a guide's gradient."""

    overrides: tuple[tuple[str, float | None], ...]
    decoding: Decoding
    gradient: bool

    @property
    def name(self) -> str:
        return " ".join(
            f"{key.rpartition('.')[2]}={_shown(value)}" for key, value in self.overrides
        )


def candidates(decoding: Decoding, grid: Grid) -> list[Candidate]:
    """All candidates, those without a gradient first."""
    nabla = decoding.nabla
    found = []
    if nabla.proposals == "ranked":
        # The largest beta first: from no guide to the one that is followed most closely.
        betas = (None, *sorted(set(grid.beta), reverse=True))
        for beta, score, weight in product(betas, grid.min_score, grid.reward_weight):
            ranked = replace(nabla.ranked, beta=beta, min_score=score, reward_weight=weight)
            given = {"beta": beta, "min_score": score, "reward_weight": weight}
            keys = tuple((f"decoding.nabla.ranked.{name}", v) for name, v in given.items())
            changed = replace(decoding, nabla=replace(nabla, ranked=ranked))
            found.append(Candidate(keys, changed, beta is not None))
        return found
    if nabla.dto.optimizer == "mirror":  # one step in closed form: it has no learning rate
        steps = [
            ("beta", b, replace(nabla.dto, beta=b), b is not None)
            for b in (None, *sorted(set(grid.beta), reverse=True))
        ]
    else:
        rates = sorted({0.0, *grid.learning_rate})
        steps = [("learning_rate", r, replace(nabla.dto, learning_rate=r), r != 0) for r in rates]
    for name, value, dto, gradient in steps:
        changed = replace(decoding, nabla=replace(nabla, dto=dto))
        found.append(Candidate(((f"decoding.nabla.dto.{name}", value),), changed, gradient))
    return found


def _shown(value: float | None) -> str:
    return "null" if value is None else f"{value:g}"
