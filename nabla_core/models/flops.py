"""Estimated floating-point operations of model passes.

Per token fed: 2 per weight of every linear layer in the body. Attention: 4 * heads * head
size per (query, key) pair that a causal mask lets through. The head: 2 * D * V per position
whose logits are formed. A backward pass to the inputs alone costs the linear layers once
more and attention 2.5 times (dV, dP, dQ, dK and the recomputed scores, against two products
forward); no gradient of a weight is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model, as the estimate needs them.

    `linear`: weights of all linear layers of the body. `attention_width`: heads * head size.
    `hidden`: D. `outputs`: V of an LM, 1 of a reward model.
    """

    linear: int
    layers: int
    attention_width: int
    hidden: int
    outputs: int

    @classmethod
    def of(cls, body: nn.Module, config: Any, outputs: int) -> Shape:
        # The embedding is a table look-up: it costs nothing.
        linear = sum(m.weight.numel() for m in body.modules() if isinstance(m, nn.Linear))
        text = config.get_text_config()
        # A model may set its head size; it need not be hidden size / heads.
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        width = text.num_attention_heads * size
        return cls(linear, text.num_hidden_layers, width, text.hidden_size, outputs)

    def forward(self, fed: int, cached: int = 0) -> float:
        """The body on `fed` tokens behind `cached` ones that are in a prefix cache."""
        # (query, key) pairs under a causal mask: a token sees the cached ones, those before it, and
        # itself.
        pairs = fed * cached + fed * (fed + 1) / 2
        return 2.0 * self.linear * fed + 4.0 * self.layers * self.attention_width * pairs

    def backward(self, fed: int, cached: int = 0) -> float:
        """The gradient with respect to `fed` input embeddings, through the body."""
        pairs = fed * cached + fed * (fed + 1) / 2
        return 2.0 * self.linear * fed + 10.0 * self.layers * self.attention_width * pairs

    def head(self, rows: int) -> float:
        """Outputs at `rows` positions. A gradient row `table @ de` is the same product."""
        return 2.0 * self.hidden * self.outputs * rows
