"""Settings of `jobs.compare`. Nothing here imports torch or ray."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from nabla_core.config import Decoding, check
from nabla_core.config_metadata import NOT_SHAPING
from pipeline.run.config import RowsConfig


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: prompts are drawn with replacement (Efron, 1979).

    Attributes:
        resamples: How often a sample of the prompts is drawn.
        confidence: The confidence level of intervals.
        seed: Seed of the draws.
    """

    resamples: int = 9999
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.resamples >= 100, f"resamples must be at least 100, got {self.resamples}")
        check(0 < self.confidence < 1, f"confidence must be in (0, 1), got {self.confidence}")


@dataclass(frozen=True)
class CompareConfig(RowsConfig):
    """The settings of `nabla compare`: those of `nabla generate` as the base of all arms, and the
    arms. Each arm is a run of `nabla generate` in its own folder, `<run_dir>/arms/NAME`.

    Attributes:
        samples_per_prompt (responses): Responses to each prompt, each with its own draws.
        decoding: The method of an arm that names no other.
        arms: The arms by name: the settings in which an arm differs from the base, as in a config
            file of `nabla generate`. `null` takes out an arm of an earlier file.
        runs: Run folders of `nabla generate` that join the comparison as they are, by name.
        reference: The arm that the others are compared with.
        second_judge: A reward model (a folder, a hub id, or `embedded`) that had no part in any
            arm: it scores all responses once they are made. null: none.
        kl_samples (responses): KL to `lm`, the base LM, is estimated from so many responses of an
            arm to each prompt; 0: not at all.
        bootstrap: How intervals are made.
    """

    run_dir: str = field(default="runs/compare", metadata=NOT_SHAPING)
    max_dead_fraction: float = field(default=0.5, metadata=NOT_SHAPING)
    samples_per_prompt: int = field(default=1, metadata=NOT_SHAPING)
    decoding: Decoding = field(default_factory=Decoding)
    # The folder of each arm compares its own settings; an arm more or less changes no other.
    arms: dict[str, Any] = field(default_factory=dict, metadata=NOT_SHAPING)
    runs: dict[str, str] = field(default_factory=dict, metadata=NOT_SHAPING)
    reference: str = field(default="greedy", metadata=NOT_SHAPING)
    second_judge: str | None = field(default=None, metadata=NOT_SHAPING)
    kl_samples: int = field(default=4, metadata=NOT_SHAPING)
    bootstrap: Bootstrap = field(default_factory=Bootstrap, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.samples_per_prompt >= 1,
            f"samples_per_prompt must be at least 1, got {self.samples_per_prompt}",
        )
        check(self.kl_samples >= 0, f"kl_samples must be at least 0, got {self.kl_samples}")
        names = [name for name, settings in self.arms.items() if settings is not None]
        both = sorted(set(names) & self.runs.keys())
        check(not both, f"arms and runs: {', '.join(both)} is in both")
        names += self.runs
        check(len(names) >= 2, f"a comparison needs at least two arms, got {len(names)}")
        check(
            self.reference in names,
            f"reference={self.reference} is no arm; there are {', '.join(names)}",
        )
        for name, settings in self.arms.items():
            check(
                settings is None or isinstance(settings, dict),
                f"arms.{name} must be settings, such as {{decoding: {{method: greedy}}}}, "
                f"got {settings!r}",
            )
            check("run_dir" not in (settings or {}), f"arms.{name}.run_dir: runs.{name} takes one")
        folders: dict[str, str] = {}
        for name in names:
            other = folders.setdefault(folder_name(name), name)
            check(other == name, f"arms: {other!r} and {name!r} would share the folder of one name")


def folder_name(arm: str) -> str:
    """The name of an arm's folder: letters and digits of its name, in lower case."""
    return re.sub(r"[^a-z0-9]+", "-", arm.lower()).strip("-") or "arm"
