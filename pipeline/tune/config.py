"""Settings of `jobs.tune`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config import Decoding
from nabla_core.config_metadata import NOT_SHAPING
from pipeline.run.config import RowsConfig


@dataclass(frozen=True)
class Grid:
    """The values to try: `beta`, `min_score` and `reward_weight` of ranked proposals; left to
    right, `learning_rate` of Adam or `beta` of the mirror step.

    A setting without a gradient (`beta` null, for the mirror step infinite; `learning_rate` 0)
    is always tried too, so that a guide that does not pay is found out.
    """

    beta: tuple[float, ...] = (0.5, 1.0, 2.0)
    min_score: tuple[float, ...] = (-4.0, -3.0, -2.0)
    reward_weight: tuple[float, ...] = (0.0, 1.0, 2.0)
    learning_rate: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class TuneConfig(RowsConfig):
    """One run of `jobs.tune`: a generate config whose `decoding` is varied over `grid`."""

    run_dir: str = field(default="runs/tune", metadata=NOT_SHAPING)
    decoding: Decoding = field(default_factory=Decoding)
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoding.method != "nabla":
            raise ValueError(f"jobs.tune tunes nabla, not decoding.method={self.decoding.method}")
        if self.decoding.nabla.proposals not in ("ranked", "left_to_right"):
            raise ValueError(
                f"decoding.nabla.proposals={self.decoding.nabla.proposals} has nothing to tune"
            )
