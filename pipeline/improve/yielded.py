"""The yields of the ways to generate in a round."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.tables.yields import Attempted, samples_for, yield_of


@dataclass(frozen=True, kw_only=True)
class Yielded:
    """The yield of a way to generate in a round (`pipeline.tables.yields`), beside that of `plain`
    samples: as many as cost as much, or all if these cost less (`plain_samples` of a prompt, with
    `plain_mflop`); None where there are none."""

    right: float
    hard: int | None
    right_on_hard: float | None
    mflop: float
    right_per_gflop: float
    plain_samples: int | None = None
    plain_right: float | None = None
    plain_right_on_hard: float | None = None
    plain_mflop: float | None = None


def yields_of(
    made: Mapping[str, Attempted], hard: Collection[str] | None, plain: Attempted | None
) -> dict[str, Yielded]:
    """Of each way to generate, beside `plain` samples. `hard`: ids of the prompts whose greedy
    answer is wrong; None: not known."""
    return {
        name: _yielded(way, hard, None if way is plain else plain) for name, way in made.items()
    }


def _yielded(way: Attempted, hard: Collection[str] | None, plain: Attempted | None) -> Yielded:
    found = yield_of(way, hard)
    count = None if plain is None else samples_for(found.flops, plain)
    beside = None if plain is None else yield_of(plain, hard, k=count)
    return Yielded(
        right=found.right,
        hard=found.hard,
        right_on_hard=found.right_on_hard,
        mflop=found.flops / 1e6,
        right_per_gflop=found.right_per_gflop,
        plain_samples=count,
        plain_right=beside.right if beside else None,
        plain_right_on_hard=beside.right_on_hard if beside else None,
        plain_mflop=beside.flops / 1e6 if beside else None,
    )
