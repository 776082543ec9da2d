"""The ids and fingerprints of an input, in at most 40 bytes a prompt whatever their length.

The driver holds this index for the whole run, and an input may have millions of prompts. It keeps
digests in place of ids: an id is read again from the input, or from a committed row, where a
message must name it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from struct import unpack

EMPTY = 0


class InputIndex:
    """Which prompt is at which position of the input.

    Ids are kept as digests of 128 bits: among a billion ids the chance that any two have the same
    digest is below 1e-20. Fingerprints are kept as digests of 64 bits.
    """

    # Arrays of the standard library, not numpy's: they grow by one entry at a time, so a second
    # prompt with an id is noticed when it is read and can be named.
    def __init__(self, prompts: Iterable[tuple[str, str]] = ()) -> None:
        """An index of these pairs of id and fingerprint. Raises ValueError if ids repeat."""
        self._ids = array("Q")  # two numbers a prompt
        self._fingerprints = array("Q")
        # A hash table with open addressing and linear probing: entry `position + 1`, or EMPTY.
        self._table = array("I", bytes(4 * 1024))
        for prompt_id, fingerprint in prompts:
            if not self.add(prompt_id, fingerprint):
                raise ValueError(f"{prompt_id!r} occurs more than once")

    def __len__(self) -> int:
        return len(self._fingerprints)

    def add(self, prompt_id: str, fingerprint: str) -> bool:
        """Enter the next prompt of the input; False, and no entry, if its id is there already."""
        low, high = _digest(prompt_id)
        place = self._place(low, high)
        if self._table[place] != EMPTY:
            return False
        self._ids.append(low)
        self._ids.append(high)
        self._fingerprints.append(_short_digest(fingerprint))
        self._table[place] = len(self)
        if 3 * len(self) >= 2 * len(self._table):
            self._grow()
        return True

    def position(self, prompt_id: str) -> int | None:
        """The position of a prompt in the input; None if it is not there."""
        entry = self._table[self._place(*_digest(prompt_id))]
        return None if entry == EMPTY else entry - 1

    def is_id(self, position: int, prompt_id: str) -> bool:
        """Whether the prompt at a position has this id."""
        low, high = _digest(prompt_id)
        return self._ids[2 * position] == low and self._ids[2 * position + 1] == high

    def is_fingerprint(self, position: int, fingerprint: str) -> bool:
        """Whether the prompt at a position has this fingerprint."""
        return self._fingerprints[position] == _short_digest(fingerprint)

    def digest(self, position: int) -> str:
        """Hex digits that stand for the id and the fingerprint of the prompt at a position."""
        low, high = self._ids[2 * position], self._ids[2 * position + 1]
        return f"{low:016x}{high:016x}{self._fingerprints[position]:016x}"

    def _place(self, low: int, high: int) -> int:
        """Where in the table a digest is, or where it is to be entered."""
        ids, table = self._ids, self._table
        mask = len(table) - 1
        place = low & mask
        while entry := table[place]:
            found = 2 * (entry - 1)
            if ids[found] == low and ids[found + 1] == high:
                break
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        mask = 2 * len(self._table) - 1
        table = array("I", bytes(4 * (mask + 1)))
        for position in range(len(self)):
            place = self._ids[2 * position] & mask
            while table[place] != EMPTY:
                place = (place + 1) & mask
            table[place] = position + 1
        self._table = table


def digest_of_row(prompt_id: str, sample: int, fingerprint: str) -> str:
    """A text that stands for a row's prompt, its content and its sample; see `Slots.digest`."""
    low, high = _digest(prompt_id)
    return f"{low:016x}{high:016x}{_short_digest(fingerprint):016x} {sample}\n"


def _digest(prompt_id: str) -> tuple[int, int]:
    low, high = unpack("<QQ", blake2b(prompt_id.encode(), digest_size=16).digest())
    return low, high


def _short_digest(fingerprint: str) -> int:
    return int.from_bytes(blake2b(fingerprint.encode(), digest_size=8).digest(), "little")
