"""The network of a value head: from the hidden states of a frozen LM to advantages of its tokens.

It is a model of transformers of its own, so that it is saved, loaded and digested like the others.
Its config names the LM whose hidden states it reads.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import PreTrainedConfig, PreTrainedModel

VALUE_HEAD = "value_head"


class ValueHeadConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a value head and the LM that it belongs to.

    `hidden_size`: D of the LM. `vocab_size`: V, the rows of the LM's output layer. `width`: units
    of the hidden layer; 0: none. `lm_name` and `lm_revision` are the LM's identity, `lm_tokenizer`
    the fingerprint of its tokenizer.
    """

    model_type = "nabla_value_head"

    hidden_size: int = 0
    vocab_size: int = 0
    width: int = 0
    lm_name: str = ""
    lm_revision: str = ""
    lm_tokenizer: str = ""
    nabla_guide: str = VALUE_HEAD

    @property
    def flops(self) -> float:
        """Floating-point operations that form the advantages of one position."""
        inner = 2 * self.width if self.width else self.hidden_size
        return 2.0 * self.hidden_size * (inner + self.vocab_size)

    @property
    def parameters(self) -> int:
        """The number of weights."""
        inner = 2 * self.width if self.width else self.hidden_size
        return self.hidden_size * (inner + self.vocab_size) + self.width


class ValueHead(PreTrainedModel):  # type: ignore[misc]
    """A = output(features(h)): `features` is a matrix, or an MLP of one hidden layer."""

    config_class = ValueHeadConfig

    def __init__(self, config: ValueHeadConfig) -> None:
        super().__init__(config)
        size, width = config.hidden_size, config.width
        self.inner = nn.Linear(size, width) if width else None
        self.project = nn.Linear(width or size, size, bias=False)
        self.output = nn.Linear(size, config.vocab_size, bias=False)
        self.post_init()

    def features(self, hidden: Tensor) -> Tensor:
        """hidden `[..., D]` -> `[..., D]`, what the output layer reads."""
        return self.project(hidden if self.inner is None else silu(self.inner(hidden)))

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden `[..., D]` of the LM at the tokens before some positions -> advantages `[..., V]`
        of every token that could stand there, in the judge's units."""
        advantages: Tensor = self.output(self.features(hidden))
        return advantages

    def _init_weights(self, module: Any) -> None:
        """New weights are set by `guide_training.value_head`; loaded ones need none."""
