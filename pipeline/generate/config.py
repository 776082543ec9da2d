"""Settings of `jobs.generate`."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config import Decoding
from pipeline.run.config import RowsConfig


@dataclass(frozen=True)
class GenerateConfig(RowsConfig):
    """One run of `jobs.generate`."""

    run_dir: str = "runs/generate"
    max_dead_fraction: float = 0.5
    samples_per_prompt: int = 1
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples_per_prompt < 1:
            raise ValueError(
                f"samples_per_prompt must be at least 1, got {self.samples_per_prompt}"
            )
