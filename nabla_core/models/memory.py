"""Estimated memory of models at work: keys and values, activations, and what a gradient keeps.

Per token and layer, in elements of the models' type (D hidden size, A heads * head size, K key and
value heads * head size, I inner size of the MLP):

- a key and a value: 2 K, until the sequence is dropped;
- a pass without a gradient: 3 I + 4 D in the MLP, or 4 A + 3 K + 3 D in attention where that is
  more, of one layer at a time;
- a pass with a gradient to the inputs keeps 3 I + 2 A + 2 K of every layer (the MLP's gate, what it
  is multiplied with, queries, keys, values and attention's output), and the inputs of two norms in
  float32. No input of a linear layer is kept, because weights take no gradient. The backward pass
  adds 3 I + D, of one layer.

This is a dense decoder with a gated MLP and attention that keeps no matrix of scores; an MLP
without a gate keeps less. `tests/core/models/test_memory.py` compares it with what torch allocates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nabla_core.models.forward import BLOCK
from nabla_core.models.kv_buffer import columns_for

FLOAT32 = 4
# Blocks [rows, V] in float32 that scoring a response holds at a time: logits, log-probabilities,
# probabilities and what is formed of them.
_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a model that its memory depends on. `attention`: heads * head size; `keys`: key
    and value heads * head size; `inner`: of the MLP; `outputs`: rows of the output layer."""

    layers: int
    hidden: int
    attention: int
    keys: int
    inner: int
    outputs: int

    @classmethod
    def of(cls, config: Any, outputs: int) -> Sizes:
        """The sizes in a config of transformers."""
        text = config.get_text_config()
        heads, hidden = text.num_attention_heads, text.hidden_size
        size = getattr(text, "head_dim", None) or hidden // heads
        keys = getattr(text, "num_key_value_heads", None) or heads
        # GPT-2 names it n_inner, and leaves it open; OPT ffn_dim.
        found = (getattr(text, name, None) for name in ("intermediate_size", "ffn_dim", "n_inner"))
        inner = next((value for value in found if value), 4 * hidden)
        return cls(text.num_hidden_layers, hidden, heads * size, keys * size, inner, outputs)

    def cached(self, tokens: float, itemsize: int) -> float:
        """Bytes of the keys and values of so many tokens."""
        return 2.0 * self.layers * self.keys * tokens * itemsize

    def reading(self, tokens: float, itemsize: int) -> float:
        """Bytes of activations of a pass without a gradient over so many tokens."""
        mlp = 3.0 * self.inner + 4 * self.hidden
        attention = 4.0 * self.attention + 3 * self.keys + 3 * self.hidden
        return tokens * itemsize * max(mlp, attention)

    def sweeping(self, tokens: float, itemsize: int, *, checkpoint: bool = False) -> float:
        """Bytes of activations of a pass forward and backward over so many tokens; with
        `checkpoint` every layer keeps its input alone, and is run again."""
        layer = itemsize * (3.0 * self.inner + 2 * self.attention + 2 * self.keys)
        layer += 2.0 * FLOAT32 * self.hidden
        backward = itemsize * (3.0 * self.inner + self.hidden)
        kept = self.layers * itemsize * self.hidden + layer if checkpoint else self.layers * layer
        return tokens * (kept + backward)

    def scoring(self, rows: float) -> float:
        """Bytes that the output layer takes for the likelihood of so many tokens: a block at a
        time (`models.forward.likelihood`)."""
        return float(_BLOCKS * FLOAT32) * min(rows * self.outputs, max(BLOCK, self.outputs))


def grown(rows: int, prompt: int, length: int) -> float:
    """Columns of keys and values times rows, in tokens, at the peak of a batch that is decoded from
    `prompt` to `prompt + length` tokens: its tensors grow by copying (`models.kv_buffer`)."""
    have = columns_for(prompt)
    peak = prompt + have
    while have < prompt + length:
        width, have = have, columns_for(have)
        peak = max(peak, width + have)
    return float(rows * peak)
