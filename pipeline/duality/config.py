"""Settings of the job `duality`. Nothing here imports torch, so they are read in a moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from pipeline.duality.checkpoints.config import CheckpointsConfig
from pipeline.duality.continuous.config import ContinuousConfig
from pipeline.duality.language.config import LanguageConfig
from pipeline.duality.tokens.config import TokensConfig

Part = Literal["continuous", "tokens", "language", "checkpoints"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class DualityConfig:
    """The settings of `nabla duality`: checks of the claim that gradient search is dual to
    KL-regularised RL.

    Attributes:
        run_dir: The run folder.
        parts: The parts to run: any of continuous, tokens, language, checkpoints.
        seeds: Each check is repeated with each seed; the RL training of part language and the whole
            part checkpoints use the first one only.
        processes (processes): Pieces of work that are computed in parallel.
        continuous: Part continuous: densities on R and R^2.
        tokens: Part tokens: responses that can be enumerated.
        language: Part language: the embedded LM.
        checkpoints: Part checkpoints: a reference LM of yours and one tuned from it by RL.
    """

    run_dir: str = "runs/duality"
    parts: tuple[str, ...] = PARTS[:3]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    processes: int = 2
    continuous: ContinuousConfig = field(default_factory=ContinuousConfig)
    tokens: TokensConfig = field(default_factory=TokensConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise ValueError(f"parts: {', '.join(unknown) or 'none'}; known: {', '.join(PARTS)}")
        if not self.seeds:
            raise ValueError("seeds: at least one is needed")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} has one twice")
        # numpy, which TRL seeds, takes 32 bits.
        if not all(0 <= seed < 2**32 for seed in self.seeds):
            raise ValueError(f"seeds must be in 0..2**32-1, got {list(self.seeds)}")
        if self.processes < 1:
            raise ValueError(f"processes must be at least 1, got {self.processes}")
        # The other parts have models of their own.
        if "checkpoints" in self.parts:
            self.checkpoints.check()
