"""GPUs as their data sheets describe them. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU: `flops` a second in bfloat16 (dense), `bandwidth` of its memory in bytes a second, and
    the bytes of that `memory`."""

    name: str
    flops: float
    bandwidth: float
    memory: float


def _card(name: str, teraflops: float, terabytes: float, gigabytes: float) -> Card:
    return Card(
        name=name, flops=teraflops * 1e12, bandwidth=terabytes * 1e12, memory=gigabytes * 1e9
    )


# From the makers' data sheets: bfloat16 on tensor cores, without sparsity.
CARDS = {
    card.name: card
    for card in (
        _card("a10", 125, 0.6, 24),
        _card("l4", 121, 0.3, 24),
        _card("l40s", 362, 0.864, 48),
        _card("a100-40gb", 312, 1.555, 40),
        _card("a100", 312, 2.039, 80),
        _card("h100", 989, 3.35, 80),
        _card("h200", 989, 4.8, 141),
        _card("b200", 2250, 8.0, 180),
        _card("mi300x", 1307, 5.3, 192),
    )
}
DEFAULT_CARD, DEFAULT_SHARE = "h100", 0.3
