"""How long a run takes on a GPU, from what its data sheet says. No such run was made to check it.

Passes over whole texts take their FLOPs at the card's peak; a step of decoding takes its FLOPs, or
the time in which weights, keys and values are read from memory once, whichever is longer. Both
peaks are multiplied by `share`, which stands for all that no data sheet tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nabla_core.config import Decoding
from pipeline.preview.memory import decoders

if TYPE_CHECKING:
    from pipeline.preview.cards import Card
    from pipeline.preview.cost import Expected
    from pipeline.preview.memory import Memory
    from pipeline.preview.models import Models


def seconds(
    expected: Expected,
    decoding: Decoding,
    models: Models,
    held: Memory,
    card: Card,
    *,
    share: float,
    prompt: float,
    itemsize: int,
) -> float:
    """The seconds of a row of cost `expected` on one card, in full batches."""
    length, readers = decoding.max_tokens, decoders(decoding, models)
    token = sum(m.shape.forward(length, round(prompt)) + m.shape.head(length) for m in readers)
    flops = expected.generated_tokens * token / length
    # Half of a response is there in the mean.
    history = held.rows * (prompt + length / 2)
    read = sum(m.parameters * itemsize + m.sizes.cached(history, itemsize) for m in readers)
    steps = expected.generated_tokens / held.rows
    decoded = max(flops / card.flops, steps * read / card.bandwidth)
    return (decoded + max(0.0, expected.flops - flops) / card.flops) / share
