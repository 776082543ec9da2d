"""The candidates of a tuning run: every combination of the values in the grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from nabla_core.config import Decoding
from pipeline.tune.config import Grid


@dataclass(frozen=True)
class Candidate:
    """Settings of the search to try: as overrides of a config and as the decoding that they give.
    `gradient`: whether the guide is used."""

    overrides: tuple[tuple[str, float | str | None], ...]
    decoding: Decoding
    gradient: bool

    @property
    def name(self) -> str:
        return " ".join(
            f"{key.rpartition('.')[2]}={_shown(value)}" for key, value in self.overrides
        )


def candidates(decoding: Decoding, grid: Grid) -> list[Candidate]:
    """All candidates, those without a gradient first."""
    # From no guide to the one that is followed most closely: a small beta weights advantages more.
    if decoding.method == "guided":
        return _guided(decoding, grid)
    betas = (None, *sorted(set(grid.beta), reverse=True))
    if decoding.nabla.proposals == "ranked":
        return [
            _candidate(
                decoding,
                "ranked",
                gradient=beta is not None,
                beta=beta,
                min_score=min_score,
                reward_weight=reward_weight,
            )
            for beta, min_score, reward_weight in product(betas, grid.min_score, grid.reward_weight)
        ]
    if decoding.nabla.dto.optimizer == "mirror":  # one step in closed form: no learning rate
        return [_candidate(decoding, "dto", gradient=beta is not None, beta=beta) for beta in betas]
    rates = sorted({0.0, *grid.learning_rate})
    return [_candidate(decoding, "dto", gradient=rate != 0, learning_rate=rate) for rate in rates]


def _guided(decoding: Decoding, grid: Grid) -> list[Candidate]:
    """Guided decoding at each beta, and the same sampling without a guide."""
    alone: Decoding = replace(decoding, method="sample", sample=replace(decoding.guided, beta=None))
    overrides: list[tuple[str, float | str | None]] = [("decoding.method", "sample")]
    overrides += [
        (f"decoding.sample.{key}", getattr(alone.sample, key))
        for key in ("temperature", "top_p", "top_k", "min_p")
    ]
    return [
        Candidate(tuple(overrides), alone, gradient=False),
        *(
            Candidate(
                (("decoding.guided.beta", beta),),
                replace(decoding, guided=replace(decoding.guided, beta=beta)),
                gradient=True,
            )
            for beta in sorted(set(grid.guided_beta), reverse=True)
        ),
    ]


def _candidate(
    decoding: Decoding,
    section: Literal["ranked", "dto"],
    *,
    gradient: bool,
    **values: float | None,
) -> Candidate:
    """The decoding with these values in a section of `decoding.nabla`."""
    nabla = decoding.nabla
    changed: Any = replace(getattr(nabla, section), **values)
    search: Any = {section: changed}
    overrides = tuple((f"decoding.nabla.{section}.{key}", value) for key, value in values.items())
    return Candidate(overrides, replace(decoding, nabla=replace(nabla, **search)), gradient)


def _shown(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return "null" if value is None else f"{value:g}"
