"""Settings of guide training. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["gradient", "head"]


@dataclass(frozen=True)
class Target:
    """What a guide is taught about the scores S_b of the tokens tried at a position, y taken.

    With P_b what the guide says b is worth, up to a constant of the position:

    - `within`: cross-entropy of softmax(S / temperature) and softmax(P / temperature) over the
      tokens of a position;
    - `across`: the same over the gains, S_b - S_y and P_b - P_y, of all pairs (position, token)
      of a response together, so that positions are ranked among each other;
    - `scale`: Huber loss (quadratic up to `huber_delta`) of P_b - P_y against S_b - S_y, so that
      gains come in the judge's units and eta near 1 is right;
    - `mirror`: cross-entropy of p exp(S / temperature), normalised, and softmax(log p + P): the
      search's mirror step at eta 1 is taught the law that is best for the scores at that price
      of leaving the LM's p;
    - `score`: squared difference between the guide's own reward of the response and its score
      (a gradient guide's only).

    Each is the weight of its term. For the first `direction_steps` steps the loss is `within`
    alone: terms on the size of a gradient keep it from changing its direction. Softmax terms
    leave predicted gains too small where the outcome is uncertain. With `calibrate` the output
    layer of the guide that is measured and delivered is therefore multiplied by the slope of
    true gains on predicted ones, over examples it was trained on.
    """

    temperature: float = 0.3
    within: float = 1.0
    across: float = 1.0
    scale: float = 1.0
    huber_delta: float = 4.0
    mirror: float = 0.0
    score: float = 0.0
    direction_steps: int = 0
    calibrate: bool = True

    def __post_init__(self) -> None:
        for name in ("temperature", "huber_delta"):
            if getattr(self, name) <= 0:
                raise ValueError(f"target.{name} must be above 0, got {getattr(self, name)}")
        weights = (self.within, self.across, self.scale, self.mirror, self.score)
        if min(weights) < 0 or max(weights) == 0:
            raise ValueError("target: weights must be at least 0, and one of them above it")
        if self.direction_steps < 0:
            raise ValueError(
                f"target.direction_steps must be at least 0, got {self.direction_steps}"
            )

    def at(self, step: int) -> Target:
        """What is taught at a step, counted from 1."""
        if step > self.direction_steps:
            return self
        return replace(self, within=1.0, across=0.0, scale=0.0, mirror=0.0, score=0.0)


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., arXiv 2106.09685) in place of full weights; rank 0: none.

    Each adapted `W` becomes `W + alpha / rank * B A`, and A and B alone are learned, with the
    output layer, which is always learned whole. `targets` are names of linear layers of the
    backbone (`q_proj`); none named: all of them. Frozen layers get no adapters.
    """

    rank: int = 0
    alpha: float = 32.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"optimise.lora.rank must be at least 0, got {self.rank}")
        if self.alpha <= 0:
            raise ValueError(f"optimise.lora.alpha must be above 0, got {self.alpha}")


@dataclass(frozen=True)
class Optimise:
    """AdamW: `batch` responses a step, `micro_batch` of them at a time and worker; the learning
    rate rises over `warmup` steps and falls to a tenth of itself at the last. The norm of a step's
    gradient is held to `clip`.

    `frozen_layers` first layers and (`freeze_embeddings`) the embeddings stay as they are; of
    the rest `lora` learns adapters alone, where its rank is above 0.
    `on_nonfinite`: what to do where a gradient is not finite: `stop`, or `skip` the step; both
    name the responses. `attention` is transformers' name; a gradient guide needs one that can
    be differentiated twice (`eager`).
    """

    steps: int = 2000
    batch: int = 64
    micro_batch: int = 64
    learning_rate: float = 2e-3
    warmup: int = 30
    weight_decay: float = 0.01
    clip: float = 1.0
    frozen_layers: int = 0
    freeze_embeddings: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: str = "eager"
    on_nonfinite: Literal["stop", "skip"] = "stop"
    lora: Lora = field(default_factory=Lora)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"optimise.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if getattr(self, name) <= 0:
                raise ValueError(f"optimise.{name} must be above 0, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "frozen_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimise.{name} must be at least 0, got {getattr(self, name)}")
        if self.lora.rank and not self.freeze_embeddings:
            raise ValueError(
                "optimise.lora learns adapters and the output layer alone: "
                "freeze_embeddings: false contradicts it"
            )

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        rising = min(1.0, step / self.warmup) if self.warmup else 1.0
        return self.learning_rate * rising * (1 - 0.9 * step / self.steps)
