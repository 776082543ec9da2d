"""Settings of guide training. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from nabla_core.config import check

Kind = Literal["gradient", "head"]


@dataclass(frozen=True)
class Target:
    """The loss: how a guide's predictions P_b are fitted to the scores S_b of the candidates b
    at a position. y is the token of the response; P_b has meaning up to a constant of the
    position. Each of the five terms has a weight:

    - `within`: cross-entropy of softmax(P / temperature) relative to softmax(S / temperature)
      over the candidates of a position;
    - `across`: the same over the advantages, P_b - P_y and S_b - S_y, of all pairs (position,
      candidate) of a response, so that positions are ranked among each other;
    - `scale`: Huber loss (quadratic up to `huber_delta`) between P_b - P_y and S_b - S_y, so
      that predicted advantages are in the judge's units and a bbeta near 1 is right;
    - `mirror`: cross-entropy of softmax(log p + P) relative to softmax(log p + S / temperature),
      p the LM's probabilities: the search's mirror step at beta 1 shall yield the distribution
      with the best trade-off between score and divergence from the LM;
    - `score`: squared difference between the guide's own reward of the response and the score of
      the response (gradient guides only).

    For the first `direction_steps` steps the loss is `within` alone: terms on the size of a
    gradient keep it from changing its direction. Softmax terms leave predicted advantages too
    small where the outcome is uncertain. With `calibrate` the output layer of the guide that is
    measured and delivered is therefore multiplied by the slope of true on predicted advantages,
    over examples it was trained on.
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
            value = getattr(self, name)
            check(value > 0, f"target.{name} must be above 0, got {value}")
        weights = (self.within, self.across, self.scale, self.mirror, self.score)
        check(
            min(weights) >= 0 and max(weights) > 0,
            "target: every weight must be at least 0 and one of them above 0",
        )
        steps = self.direction_steps
        check(steps >= 0, f"target.direction_steps must be at least 0, got {steps}")

    def at(self, step: int) -> Target:
        """The target of a step; steps count from 1."""
        if step > self.direction_steps:
            return self
        return replace(self, within=1.0, across=0.0, scale=0.0, mirror=0.0, score=0.0)


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., arXiv 2106.09685) instead of full weights. `rank` 0: none.

    Each adapted weight `W` becomes `W + alpha / rank * B A`. Only A and B are trained, and the
    output layer in full. `targets` are names of linear layers of the backbone (`q_proj`); empty:
    all of them. Frozen layers get no adapters.
    """

    rank: int = 0
    alpha: float = 32.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self.rank >= 0, f"optimise.lora.rank must be at least 0, got {self.rank}")
        check(self.alpha > 0, f"optimise.lora.alpha must be above 0, got {self.alpha}")


@dataclass(frozen=True)
class Optimise:
    """The optimiser: AdamW for `steps` steps of `batch` responses.

    A worker processes `micro_batch` responses at a time. The learning rate rises linearly over
    `warmup` steps and falls linearly to a tenth of `learning_rate` at the last step. The norm of
    a step's gradient is clipped to `clip`.

    The first `frozen_layers` layers and, with `freeze_embeddings`, the embeddings are not
    trained. `lora` trains adapters in the other layers, where its rank is above 0. `dtype` is
    that of the forward pass (bfloat16: autocast); weights stay in float32. `attention` is a
    name of transformers; a gradient guide needs an attention that can be differentiated twice
    (`eager`). `on_nonfinite`: where a gradient is not finite, `stop` or `skip` the step; the
    message names the responses.
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
            value = getattr(self, name)
            check(value >= 1, f"optimise.{name} must be at least 1, got {value}")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            check(value > 0, f"optimise.{name} must be above 0, got {value}")
        for name in ("warmup", "weight_decay", "frozen_layers"):
            value = getattr(self, name)
            check(value >= 0, f"optimise.{name} must be at least 0, got {value}")
        check(
            self.lora.rank == 0 or self.freeze_embeddings,
            "optimise.lora trains adapters and the output layer alone: freeze_embeddings: false "
            "contradicts it",
        )

    def rate(self, step: int) -> float:
        """The learning rate of a step; steps count from 1."""
        rising = min(1.0, step / self.warmup) if self.warmup else 1.0
        return self.learning_rate * rising * (1 - 0.9 * step / self.steps)
