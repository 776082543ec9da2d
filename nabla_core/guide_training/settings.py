"""Settings of guide training. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from nabla_core.config import check
from nabla_core.model_config import GuideKind

Kind = GuideKind
OutputLayer = Literal["zero", "lm"]


@dataclass(frozen=True)
class Target:
    """The loss: how a guide's predictions P_b are fitted to the scores S_b of the candidates b at a
    position. y is the token of the response; P_b has meaning up to a constant of the position. Five
    terms are added, each with a weight.

    Softmax terms leave predicted advantages too small where the outcome is uncertain; `calibrate`
    corrects that.

    Attributes:
        value: The score S_b of a candidate: the `mean` of the scores of its tails, or their `soft`
            value `beta` log E exp(S / beta), which the optimum of reward against divergence from
            the LM is made of. It needs several tails of a token (`explore.tails`), drawn from the
            LM as it is (`explore.tail.temperature` 1).
        beta (judge's units): Strength of the KL term in the soft value; search and decoding at the
            same beta use it as it is meant.
        temperature (judge's units): Divides scores (and predictions) before the softmax of the
            terms `within`, `across` and `mirror`.
        within: Weight of the cross-entropy of softmax(P / temperature) relative to softmax(S /
            temperature) over the candidates of a position.
        across: Weight of the same over the advantages P_b - P_y and S_b - S_y of all pairs
            (position, candidate) of a response, which ranks positions among each other.
        scale: Weight of the Huber loss between P_b - P_y and S_b - S_y, so that predicted
            advantages are in the judge's units and a beta near 1 is right.
        huber_delta (judge's units): The Huber loss is quadratic up to this difference and linear
            beyond it.
        mirror: Weight of the cross-entropy of softmax(log p + P) relative to softmax(log p + S /
            temperature), p the LM's probabilities: the mirror step at beta 1 shall give the
            distribution with the best trade-off between score and divergence from the LM.
        score: Weight of the squared difference between the guide's own reward of the response and
            the score of the response (gradient guides only).
        direction_steps (steps): For the first steps, this many, the loss is `within` alone: terms
            on the size of a gradient keep it from changing its direction.
        calibrate: Multiplies the output layer of the guide that is measured and delivered by the
            slope of true on predicted advantages, over examples that it was trained on.
    """

    value: Literal["mean", "soft"] = "mean"
    beta: float = 1.0
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
        for name in ("beta", "temperature", "huber_delta"):
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
class ValueHead:
    """The network of a value head (`kind: value_head`): what it makes of the LM's last hidden state
    goes through an output layer of one row for each token of the LM.

    Attributes:
        width (units): Units of its hidden layer; 0: a linear network.
    """

    width: int = 256

    def __post_init__(self) -> None:
        check(self.width >= 0, f"value_head.width must be at least 0, got {self.width}")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., arXiv 2106.09685) instead of full weights: each adapted weight
    W becomes W + alpha / rank * B A. Only A and B are trained, and the output layer in full. Frozen
    layers get no adapters.

    Attributes:
        rank: Rank of the adapters; 0 trains the full weights.
        alpha: Scale of the adapters.
        targets: Names of linear layers of the backbone (`q_proj`); empty: all of them.
    """

    rank: int = 0
    alpha: float = 32.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self.rank >= 0, f"optimise.lora.rank must be at least 0, got {self.rank}")
        check(self.alpha > 0, f"optimise.lora.alpha must be above 0, got {self.alpha}")


@dataclass(frozen=True)
class Optimise:
    """The optimiser of guide training, AdamW.

    Attributes:
        steps (steps): Length of the training.
        batch (responses): Responses a step, over all workers.
        micro_batch (responses): Responses that a worker processes at a time; smaller needs less
            memory.
        learning_rate: The largest learning rate; it falls linearly to a tenth of itself at the last
            step.
        warmup (steps): The learning rate rises linearly over the first steps, this many.
        weight_decay: Decoupled weight decay.
        clip: The norm of a step's gradient is clipped to this.
        frozen_layers (layers): The first layers, this many, are not trained.
        freeze_embeddings: The embeddings are not trained.
        dtype: Type of the forward pass (bfloat16: autocast), and of LM and judge where they are
            read; trained weights stay in float32. `auto` as in `runtime.dtype`, decided once a
            training.
        attention: transformers' name of the attention. A gradient guide needs one that can be
            differentiated twice (`eager`).
        on_nonfinite: Where a gradient is not finite: `stop`, or `skip` the step. The message names
            the responses.
        lora: Adapters instead of full weights.
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
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
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
