"""Settings of `jobs.tune`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config import Decoding
from nabla_core.config_metadata import NOT_SHAPING
from pipeline.run.config import RowsConfig, require_guide, require_judge


@dataclass(frozen=True)
class Grid:
    """The values to try. Ranked proposals vary `beta`, `min_score` and `reward_weight`; left-to-
    right proposals vary `learning_rate` (Adam) or `beta` (mirror step). Method guided varies
    `guided_beta`.

    Settings without a gradient (`beta` null, `learning_rate` 0) are always tried too: they show
    whether the guide improves the results.

    Attributes:
        beta (units of the objective per nat): Values of `ranked.beta`, or of `dto.beta` for the
            mirror step.
        min_score (nats): Values of `ranked.min_score`.
        reward_weight (1 / judge's unit): Values of `ranked.reward_weight`.
        learning_rate: Values of `dto.learning_rate`.
        guided_beta (judge's units per nat): Values of `guided.beta`.
    """

    # Over powers: judges count in units of any size, and beta is in units of the judge.
    beta: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    min_score: tuple[float, ...] = (-4.0, -3.0, -2.0)
    reward_weight: tuple[float, ...] = (0.0, 1.0, 2.0)
    learning_rate: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    guided_beta: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class TuneConfig(RowsConfig):
    """The settings of `nabla tune`: those of `nabla generate`, with `decoding` varied over `grid`.

    Attributes:
        decoding: The method to tune: guided, or nabla with ranked or left-to-right proposals.
        grid: The values to try.
    """

    run_dir: str = field(default="runs/tune", metadata=NOT_SHAPING)
    decoding: Decoding = field(default_factory=Decoding)
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_judge(self.reward, "nabla tune")
        require_guide(self.reward, self.decoding)
        if self.decoding.method == "guided":
            return
        if self.decoding.method != "nabla":
            raise ValueError(
                "nabla tune varies the settings of the methods nabla and guided, not "
                f"decoding.method={self.decoding.method}"
            )
        if self.decoding.nabla.proposals not in ("ranked", "left_to_right"):
            raise ValueError(
                f"decoding.nabla.proposals={self.decoding.nabla.proposals} has nothing to tune"
            )
