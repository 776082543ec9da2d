"""Which rows of the input are missing, finished or dead, and in which file each row is.

A slot is one `(prompt_id, sample)`. Slots are numbered in the order of the input. A slot takes
17 bytes beside the ids and fingerprints of the input, so that the driver can hold the slots of
millions of prompts: rows themselves stay in the files.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import pyarrow as pa


class SlotState(IntEnum):
    """The state of a slot by the committed rows; a number, since a slot keeps it in one byte."""

    MISSING = 0
    FINISHED = 1
    DEAD = 2


MISSING, FINISHED, DEAD = SlotState


@dataclass
class Slots:
    """The slots of an input and the committed rows that fill them.

    `inputs` maps each prompt id to its fingerprint, in input order. `changed` names the committed
    rows whose prompt has another fingerprint now, `removed` those whose prompt or sample is not in
    the input any more. Neither fills a slot.
    """

    inputs: Mapping[str, str]
    samples: int
    files: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._position = {prompt_id: n for n, prompt_id in enumerate(self.inputs)}
        size = len(self.inputs) * self.samples
        self._state = bytearray(size)
        # The row of a slot: the index of its file in `files`, its number there, and when it was
        # made, in seconds since 1970.
        self._file = array("I", bytes(4 * size))
        self._row = array("I", bytes(4 * size))
        self._created = array("d", bytes(8 * size))

    def __len__(self) -> int:
        return len(self._state)

    def accepts(self, prompt_id: str, sample: int, fingerprint: str) -> bool:
        """Whether a row with these keys fills a slot."""
        return self.inputs.get(prompt_id) == fingerprint and sample < self.samples

    def location(self, slot: int) -> tuple[str, int]:
        """File and row number of a filled slot."""
        return self.files[self._file[slot]], self._row[slot]

    def add(self, file: str, keys: pa.Table) -> int:
        """Enter the rows of a file (columns `parts.KEY_COLUMNS`); returns how many missing slots
        they filled.

        Two rows may have the same slot: a prompt is made again after a crash whose part was
        committed, and a dead one when it is retried. A finished row replaces a dead one; of two in
        the same state the later one counts.
        """
        self.files.append(file)
        number = len(self.files) - 1
        filled = 0
        columns = (keys[name].to_pylist() for name in keys.column_names)
        for row, (prompt_id, sample, fingerprint, created_at, error) in enumerate(
            zip(*columns, strict=True)
        ):
            position = self._position.get(prompt_id)
            if position is None or sample >= self.samples:
                self.removed.append(f"{prompt_id}#{sample}")
                continue
            if self.inputs[prompt_id] != fingerprint:
                self.changed.append(f"{prompt_id}#{sample}")
                continue
            slot = position * self.samples + sample
            state = FINISHED if error is None else DEAD
            created = created_at.timestamp()
            if self._state[slot] == MISSING:
                filled += 1
            if self._replaces(slot, state, created):
                self._state[slot] = state
                self._file[slot] = number
                self._row[slot] = row
                self._created[slot] = created
        return filled

    def count(self, state: SlotState) -> int:
        """The number of slots in a state."""
        return self._state.count(state)

    def forget(self, state: SlotState) -> None:
        """Make the slots in a state missing. Their rows stay in the files."""
        for slot in list(self.in_state(state)):
            self._state[slot] = MISSING

    def in_state(self, state: SlotState) -> Iterator[int]:
        """The slots in a state, in input order."""
        return (slot for slot, current in enumerate(self._state) if current == state)

    def key(self, slot: int, ids: list[str]) -> tuple[str, int]:
        """Prompt id and sample of a slot; `ids` are the keys of `inputs` as a list."""
        return ids[slot // self.samples], slot % self.samples

    def _replaces(self, slot: int, state: SlotState, created: float) -> bool:
        current = self._state[slot]
        if current == state:
            return created > self._created[slot]
        return current == MISSING or state == FINISHED
