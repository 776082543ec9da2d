"""The loss of a judge that is trained on labels at positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


def position_loss(model: nn.Module, score: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Binary cross-entropy between sigmoid(reward at a position) and its label, summed over the
    positions of a response with their weights, and averaged over the responses.

    `batch` is that of `examples.batch_of`. `model` is a sequence classifier of transformers, which
    may be wrapped for several processes, and `score` its output layer.
    """
    with _outputs(score) as seen:
        # Through the whole model: wrappers prepare their exchange of gradients in its forward pass.
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    # The classifier applies its output layer to every position before it picks one.
    rewards = seen[-1].squeeze(-1)[batch["row"], batch["index"]].float()  # [N]
    losses = functional.binary_cross_entropy_with_logits(
        rewards, batch["label"].float(), reduction="none"
    )
    return (losses * batch["weight"]).sum() / len(batch["input_ids"])


@contextmanager
def _outputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What the layer returns in the block, call by call."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output)

    handle = layer.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()
