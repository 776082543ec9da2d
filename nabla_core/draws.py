"""Random draws that depend on what they are for, never on where or when they are made.

A draw is a pure function of (seed, prompt id, sample, purpose, counter). Batch size, order,
worker, device and retries cannot change it. The counter is a position in the response, so
the draw for a token does not depend on how the tokens before it were produced.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class DrawKey:
    """The name of one stream of uniforms. `purpose` distinguishes the streams of one prompt."""

    seed: int
    prompt_id: str
    sample: int
    purpose: str

    def stream(self) -> int:
        """The 64-bit state the stream starts from."""
        name = "\x1f".join((str(self.seed), self.prompt_id, str(self.sample), self.purpose))
        return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def uniform(key: DrawKey, counter: int) -> float:
    """One number in [0, 1): splitmix64 of the stream at `counter`, top 53 bits."""
    return uniform_at(key.stream(), counter)


def uniform_at(stream: int, counter: int) -> float:
    """`uniform` of a key whose `stream` is known: most of the time goes into hashing the key."""
    z = (stream + (counter + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    # 53 bits are what a double holds: every value is exact, and 1.0 never comes out.
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53
