"""Settings of part checkpoints, which measures your own models."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config_metadata import NOT_SHAPING
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.cluster.config import Cluster
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.store.settings import Store


@dataclass(frozen=True)
class CheckpointsConfig:
    """Part checkpoints: a reference LM, an LM tuned from it by RL, and the reward.

    Attributes:
        reference: The reference LM, sampled at temperature 1.
        policy: The tuned LM, with the same tokenizer, sampled at temperature 1.
        reward: `reward.judge` is the reward model.
        prompts: The prompts to measure on.
        samples (responses): Responses of the policy to each prompt.
        reference_samples (responses): Responses of the reference to each prompt.
        max_tokens (tokens): The longest response.
        betas (judge's units per nat): KL strengths at which a point of the frontier is estimated.
        runtime: Where and how models run.
        verify: How answers are graded.
        cluster: The workers and the Ray cluster.
        store: How rows are written.
        max_attempts (crashes): Crashes of a worker over one prompt alone after which the run fails.
    """

    reference: LM = field(default_factory=lambda: LM(path=""))
    policy: LM = field(default_factory=lambda: LM(path=""))
    reward: Reward = field(default_factory=Reward)
    prompts: Prompts = field(default_factory=Prompts, metadata=NOT_SHAPING)
    samples: int = 64
    reference_samples: int = 2048
    max_tokens: int = 1024
    betas: tuple[float, ...] = field(default=(16.0, 8.0, 4.0, 2.0, 1.0, 0.5), metadata=NOT_SHAPING)
    runtime: Runtime = field(default_factory=Runtime)
    verify: Verify = field(default_factory=Verify)
    cluster: Cluster = field(default_factory=Cluster, metadata=NOT_SHAPING)
    store: Store = field(default_factory=Store, metadata=NOT_SHAPING)
    max_attempts: int = field(default=3, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        if not self.betas or min(self.betas) <= 0:
            raise ValueError(f"checkpoints.betas must be positive, got {list(self.betas)}")
        for name in ("samples", "reference_samples"):
            if getattr(self, name) < 2:
                raise ValueError(
                    f"checkpoints.{name} must be at least 2, got {getattr(self, name)}"
                )

    # Not in `__post_init__`: the section exists in every config, used or not.
    def check(self) -> None:
        """Raises ValueError where the part cannot run."""
        for name in ("reference", "policy"):
            if not getattr(self, name).path:
                raise ValueError(
                    f"part checkpoints needs checkpoints.{name}.path, one of your models"
                )
