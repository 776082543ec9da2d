"""Settings of `jobs.generate`."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config import Decoding
from nabla_core.config_metadata import NOT_SHAPING
from pipeline.run.config import UNJUDGED, RowsConfig, require_guide, require_judge


@dataclass(frozen=True)
class GenerateConfig(RowsConfig):
    """The settings of `nabla generate`: refined responses to prompts.

    Attributes:
        samples_per_prompt (responses): Responses to each prompt, each with its own draws.
        decoding: The method that answers a prompt.
    """

    run_dir: str = field(default="runs/generate", metadata=NOT_SHAPING)
    max_dead_fraction: float = field(default=0.5, metadata=NOT_SHAPING)
    # A further sample is a new row, and the rows of the others stay as they are.
    samples_per_prompt: int = field(default=1, metadata=NOT_SHAPING)
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples_per_prompt < 1:
            raise ValueError(
                f"samples_per_prompt must be at least 1, got {self.samples_per_prompt}"
            )
        if self.decoding.method not in UNJUDGED:
            require_judge(self.reward, f"decoding.method={self.decoding.method}")
        require_guide(self.reward, self.decoding)
