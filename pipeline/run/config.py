"""Settings shared by every job that makes rows of prompts on Ray."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from nabla_core.config import Decoding, Sampling
from nabla_core.config_metadata import NOT_SHAPING
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.cluster.config import Cluster
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.run.budget import Budget
from pipeline.store.settings import Store


@dataclass(frozen=True)
class RowsConfig:
    """The settings that are common to the commands that make rows from prompts on Ray.

    Attributes:
        run_dir: The run folder: a path or any URI that pyarrow or fsspec opens.
        seed: Seed of all draws.
        max_attempts (crashes): A prompt becomes a dead letter after this many crashes of a worker
            process that it runs in alone.
        max_dead_fraction: The run ends early once more than this fraction of the ended rows, 20 at
            least, are dead letters.
        allow_input_change: Makes the rows again whose prompts were edited since they were
            committed; without it such an input is refused.
        prompts: The prompts. They may change on a resume: each committed row is compared with its
            own prompt.
        lm: The language model.
        reward: The reward models.
        runtime: Where and how models run.
        verify: How answers are graded.
        cluster: The workers and the Ray cluster.
        store: How rows are written.
        budget: How much the run may spend.
    """

    run_dir: str = field(default="runs/rows", metadata=NOT_SHAPING)
    seed: int = 0
    max_attempts: int = field(default=3, metadata=NOT_SHAPING)
    max_dead_fraction: float = field(default=0.1, metadata=NOT_SHAPING)
    allow_input_change: bool = field(default=False, metadata=NOT_SHAPING)
    # Not the section but each prompt itself is compared with what was committed.
    prompts: Prompts = field(default_factory=Prompts, metadata=NOT_SHAPING)
    lm: LM = field(default_factory=LM)
    reward: Reward = field(default_factory=Reward)
    runtime: Runtime = field(default_factory=Runtime)
    verify: Verify = field(default_factory=Verify)
    cluster: Cluster = field(default_factory=Cluster, metadata=NOT_SHAPING)
    store: Store = field(default_factory=Store)
    budget: Budget = field(default_factory=Budget, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if not 0 <= self.max_dead_fraction <= 1:
            raise ValueError(f"max_dead_fraction must be in [0, 1], got {self.max_dead_fraction}")


# Methods that need no reward while they answer.
UNJUDGED = ("greedy", "sample", "guided", "majority")


def require_judge(reward: Reward, command: str) -> None:
    """Raises ValueError where there is no judge, and the command needs one."""
    if reward.judge is None:
        raise ValueError(f"reward.judge=null: {command} needs a judge; name a reward model")


def generation_settings(lm: LM, reward: Reward, decoding: Decoding) -> dict[str, Any]:
    """Models and method by their dotted keys, for a config file that is put last: all that they
    depend on, defaults too, so that no file before it changes them or names another guide."""
    method = decoding.method
    found = {
        "lm": asdict(lm),
        "reward": asdict(reward),
        "decoding.method": method,
        "decoding.max_tokens": decoding.max_tokens,
    }
    if method != "greedy":  # which has no settings
        found[f"decoding.{method}"] = asdict(getattr(decoding, method))
    return found


def require_guide(reward: Reward, decoding: Decoding) -> None:
    """Raises ValueError where responses are guided (`beta`), and no guide is named."""
    nested = decoding.method not in ("guided", "sample")
    key = f"decoding.{decoding.method}" + (".rollout" if nested else "")
    require_guide_of(reward, decoding.rollout, key)


def require_guide_of(reward: Reward, sampling: Sampling, key: str) -> None:
    """As `require_guide`, for the sampling at `key`."""
    if sampling.beta is not None and reward.guide is None:
        raise ValueError(
            f"{key}.beta={sampling.beta:g} needs a guide that decodes: set reward.guide to a head "
            f"(`nabla train-guide` makes one), or {key}.beta to null"
        )
