"""Settings of `jobs.counterfactuals`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config_metadata import NOT_SHAPING
from nabla_core.methods.counterfactuals import Explore
from pipeline.run.config import RowsConfig, require_guide_of, require_judge


@dataclass(frozen=True)
class CounterfactualsConfig(RowsConfig):
    """The settings of `nabla counterfactuals`: responses with scored alternatives at some
    positions.

    Of `reward`, the judge scores, and the guide is used where `explore.choose` is `guide` or
    `explore.tail.beta` is set.

    Attributes:
        max_tokens (tokens): The longest response.
        explore: Which counterfactuals are made.
    """

    run_dir: str = field(default="runs/counterfactuals", metadata=NOT_SHAPING)
    max_tokens: int = 1024
    explore: Explore = field(default_factory=Explore)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.explore.scorer == "verifier" and self.verify.method == "none":
            raise ValueError("explore.scorer=verifier needs a verify.method that grades")
        require_judge(self.reward, "nabla counterfactuals")
        require_guide_of(self.reward, self.explore.tail, "explore.tail")
