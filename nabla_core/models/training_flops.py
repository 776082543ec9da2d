"""Estimated floating-point operations of training, in the unit of `nabla_core.models.flops`.

A forward pass is that of inference. Behind it each linear layer costs once more for the gradient
with respect to its input, where the gradient runs through it, and once more for the gradient of its
weight, where that is trained. Layers below the lowest trained one are not reached. Attention costs
2.5 times its forward pass where it is reached. The optimiser itself, losses, norms and padding are
left out: they are small beside the products.

A gradient guide is trained by differentiating a gradient again: see `TrainedShape.double_backward`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from nabla_core.models.flops import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedShape:
    """A model in training.

    `trained`: weights of the body's linear layers that are trained. `reached`: weights of those
    that the gradient runs through, and `layers` the number of such layers. `trains_head`: the
    output layer is trained too.
    """

    shape: Shape
    trained: int
    reached: int
    layers: int
    trains_head: bool

    @classmethod
    def of(cls, body: nn.Module, config: Any, head: nn.Linear) -> TrainedShape:
        """The shape of a model whose gradients are switched on and off as in its training."""
        linear = [m for m in body.modules() if isinstance(m, nn.Linear)]
        layers = list(getattr(body, "layers", []))
        lowest = _lowest(body, layers)
        below = sum(m.weight.numel() for m in _linear(layers[:lowest]))
        return cls(
            shape=Shape.of(body, config, head.out_features),
            trained=sum(m.weight.numel() for m in linear if m.weight.requires_grad),
            reached=sum(m.weight.numel() for m in linear) - below,
            layers=config.get_text_config().num_hidden_layers - lowest,
            trains_head=head.weight.requires_grad,
        )

    def forward(self, fed: int, rows: int) -> float:
        """A pass without gradients over `fed` tokens, with outputs at `rows` positions."""
        return self.shape.forward(fed) + self.shape.head(rows)

    def step(self, fed: int, rows: int) -> float:
        """Forward and backward on a sequence of `fed` tokens, with outputs at `rows` positions."""
        return self.forward(fed, rows) + self.backward(fed, rows)

    def backward(self, fed: int, rows: int) -> float:
        """The gradient of a loss with respect to all trained weights."""
        attention = 10.0 * self.layers * self.shape.attention_width * fed * (fed + 1) / 2
        head = self.shape.head(rows) * (2 if self.trains_head else 1)
        return 2.0 * (self.reached + self.trained) * fed + attention + head

    def double_backward(self, fed: int) -> float:
        """A step on the gradient of a reward with respect to `fed` embeddings: forward, the
        gradient through all layers, and the gradient of a loss on it. The last one runs through
        both passes before. In layers that it need not reach only the gradient is followed, not what
        it was formed from.
        """
        shape, pairs = self.shape, fed * (fed + 1) / 2
        once = shape.forward(fed) + shape.head(1) + shape.backward(fed) + shape.head(1)
        # Through the first backward pass: four products of attention, where it is reached with
        # gradients of both factors.
        first = 2.0 * (shape.linear + self.trained) * fed
        first += 8.0 * (shape.layers + self.layers) * shape.attention_width * pairs
        # Through the forward pass, down to the lowest trained layer.
        second = 2.0 * (self.reached + self.trained) * fed
        second += 8.0 * self.layers * shape.attention_width * pairs
        return once + first + second


def _linear(modules: Iterable[nn.Module]) -> list[nn.Linear]:
    return [m for layer in modules for m in layer.modules() if isinstance(m, nn.Linear)]


def _lowest(body: nn.Module, layers: list[nn.Module]) -> int:
    """The number of the lowest layer that the gradient must reach."""
    embeddings: Any = getattr(body, "get_input_embeddings", lambda: None)()
    if embeddings is not None and any(p.requires_grad for p in embeddings.parameters()):
        return 0
    trained = (
        n for n, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())
    )
    return next(trained, len(layers))
