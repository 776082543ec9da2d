"""Settings that trainings share. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import check
from nabla_core.guide_training.settings import Lora
from pipeline.durations import check_seconds


@dataclass(frozen=True)
class Workers:
    """The processes that train.

    Attributes:
        count (processes): Workers; with several, each computes its share of a batch.
        address: The Ray cluster to join, as in `cluster.address`.
        cpus (CPUs): CPUs that a worker reserves.
        gpu: Whether each worker uses one GPU.
        max_failures (failures): After the death of a worker training continues from its last
            checkpoint, this often at most; -1: without limit.
        scheduling_timeout_s (s): The run ends where the cluster cannot place the workers within
            this time.
        lease_seconds (s): Another driver may take over the run folder after this time without a
            sign of this one.
    """

    count: int = 1
    address: str | None = None
    cpus: float = 1.0
    gpu: bool = False
    max_failures: int = 2
    scheduling_timeout_s: float = 1800.0
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        check(self.count >= 1, f"workers.count must be at least 1, got {self.count}")
        failures = self.max_failures
        check(failures >= -1, f"workers.max_failures must be at least -1, got {failures}")
        check(self.cpus > 0, f"workers.cpus must be above 0, got {self.cpus}")
        for name in ("scheduling_timeout_s", "lease_seconds"):
            check_seconds(f"workers.{name}", getattr(self, name))


@dataclass(frozen=True)
class Finetune:
    """The optimiser of a student or a judge, AdamW. Trained weights and the optimiser's state are
    float32.

    Attributes:
        epochs: How often each row is trained on.
        steps (steps): The length of the training instead of `epochs`; null: by `epochs`.
        batch (rows): Rows a step, over all workers.
        micro_batch (rows): Rows that a worker processes at a time; gradients are accumulated over
            the others. Smaller needs less memory.
        learning_rate: The largest learning rate.
        schedule: How the learning rate falls after the warm-up: to 0 in a line, as a cosine, or not
            at all.
        warmup: The fraction of the steps in which the learning rate rises linearly from 0.
        weight_decay: Decoupled weight decay.
        clip: The norm of a step's gradient is clipped to this.
        dtype: Type of the forward pass (bfloat16: autocast). Weights that are trained stay in
            float32; weights that LoRA freezes have this type.
        attention: transformers' name of the attention.
        gradient_checkpointing: Keeps no activations inside a layer and computes them again.
        fsdp: Shards weights, gradients and the optimiser's state over the workers (FSDP); needs
            `workers.gpu`.
        lora: Adapters instead of full weights; they are merged into the model that is delivered.
    """

    epochs: float = 1.0
    steps: int | None = None
    batch: int = 32
    micro_batch: int = 32
    learning_rate: float = 2e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.03
    weight_decay: float = 0.0
    clip: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: str = "sdpa"
    gradient_checkpointing: bool = False
    fsdp: bool = False
    lora: Lora = field(default_factory=Lora)

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "clip"):
            value = getattr(self, name)
            check(value > 0, f"optimise.{name} must be above 0, got {value}")
        for name in ("batch", "micro_batch"):
            value = getattr(self, name)
            check(value >= 1, f"optimise.{name} must be at least 1, got {value}")
        check(
            self.steps is None or self.steps >= 1,
            f"optimise.steps must be at least 1, got {self.steps}",
        )
        check(0 <= self.warmup < 1, f"optimise.warmup must be in [0, 1), got {self.warmup}")
        check(
            self.weight_decay >= 0,
            f"optimise.weight_decay must be at least 0, got {self.weight_decay}",
        )
