"""Which models there are, and how they run, as frozen dataclasses. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import check
from nabla_core.config_metadata import NOT_SHAPING


@dataclass(frozen=True)
class LM:
    """The language model: a folder, a hub id, or "embedded"."""

    path: str = "embedded"
    revision: str | None = None


@dataclass(frozen=True)
class Reward:
    """The reward models, each a folder, a hub id, or "embedded".

    The judge decides acceptance and is what traces store; the guide gives gradients, or is
    a folder of `jobs.train_guide` whose head predicts what tokens are worth.
    Of embedded guides there is one of each kind: "embedded" has a gradient, "embedded-head" is a
    head. Without a guide the judge plays both roles. `min_coverage` is the share of the LM's
    vocabulary that a reward model must know for its gradients to be used.
    """

    judge: str = "embedded"
    judge_revision: str | None = None
    guide: str | None = None
    guide_revision: str | None = None
    min_coverage: float = 0.99

    def __post_init__(self) -> None:
        check(
            0 < self.min_coverage <= 1, f"min_coverage must be in (0, 1], got {self.min_coverage}"
        )


@dataclass(frozen=True)
class Runtime:
    """Where and how models run. `device: auto` is the first GPU, else the CPU.

    A batch holds at most `max_batch` sequences and about `max_batch_tokens` tokens,
    padding included. `reuse` keeps the keys and values of a response in flight, so that a
    shared prefix is never read twice; without it prefixes are read again and memory is saved.
    `gradient_checkpointing` keeps no activations inside a layer during a sweep and computes
    them again in the backward pass; sweeps then read their whole prefix.
    """

    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_batch: int = field(default=32, metadata=NOT_SHAPING)
    max_batch_tokens: int = field(default=65536, metadata=NOT_SHAPING)
    reuse: bool = field(default=True, metadata=NOT_SHAPING)
    gradient_checkpointing: bool = field(default=False, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        check(self.max_batch >= 1, f"max_batch must be at least 1, got {self.max_batch}")
        check(
            self.max_batch_tokens >= 1,
            f"max_batch_tokens must be at least 1, got {self.max_batch_tokens}",
        )
