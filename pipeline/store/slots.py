"""Which rows of the input are missing, finished or dead, and in which file each row is.

A slot is one `(prompt_id, sample)`. Slots are numbered in the order of the input. A slot takes
17 bytes beside the index of the input, so that the driver can hold the slots of millions of
prompts: rows themselves stay in the files.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

import pyarrow as pa

from pipeline.errors import ConfigError
from pipeline.store.input_index import InputIndex


class SlotState(IntEnum):
    """The state of a slot by the committed rows; a number, since a slot keeps it in one byte."""

    MISSING = 0
    FINISHED = 1
    DEAD = 2


MISSING, FINISHED, DEAD = SlotState
# A message names so many rows.
NAMED = 3


@dataclass
class Strays:
    """Rows that fill no slot: their number, and the first three as `id#sample`."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, prompt_id: str, sample: int) -> None:
        """Count one more row."""
        self.count += 1
        if len(self.names) < NAMED:
            self.names.append(f"{prompt_id}#{sample}")


@dataclass
class Slots:
    """The slots of an input and the committed rows that fill them.

    `changed` are the committed rows whose prompt has another fingerprint now, `removed` those whose
    prompt or sample is not in the input any more. Neither fills a slot. Raises ConfigError where
    memory does not suffice.
    """

    inputs: InputIndex
    samples: int
    files: list[str] = field(default_factory=list)
    changed: Strays = field(default_factory=Strays)
    removed: Strays = field(default_factory=Strays)

    def __post_init__(self) -> None:
        size = len(self.inputs) * self.samples
        try:
            self._state = bytearray(size)
            # The row of a slot: the index of its file in `files`, its number there, and when it was
            # made, in seconds since 1970.
            self._file = array("I", bytes(4 * size))
            self._row = array("I", bytes(4 * size))
            self._created = array("d", bytes(8 * size))
        except (MemoryError, OverflowError) as error:
            raise ConfigError(
                f"{len(self.inputs):,} prompts with {self.samples:,} samples each: the list of "
                "these rows does not fit in memory"
            ) from error

    def __len__(self) -> int:
        return len(self._state)

    def accepts(self, prompt_id: str, sample: int, fingerprint: str) -> bool:
        """Whether a row with these keys fills a slot."""
        slot = self.find(prompt_id, sample)
        return slot is not None and self.inputs.is_fingerprint(slot // self.samples, fingerprint)

    def find(self, prompt_id: str, sample: int) -> int | None:
        """The slot of a prompt and sample; None if the input has none."""
        position = self.inputs.position(prompt_id)
        if position is None or sample >= self.samples:
            return None
        return position * self.samples + sample

    def is_missing(self, slot: int) -> bool:
        """Whether no committed row fills a slot."""
        return self._state[slot] == MISSING

    def is_missing_key(self, key: tuple[str, int]) -> bool:
        """Whether no committed row fills the slot of a prompt id and sample."""
        slot = self.find(*key)
        return slot is not None and self.is_missing(slot)

    def digest(self, slot: int) -> str:
        """A text that stands for the prompt, its content and the sample of a slot."""
        return f"{self.inputs.digest(slot // self.samples)} {slot % self.samples}\n"

    def has_key(self, slot: int, prompt_id: str, sample: int) -> bool:
        """Whether a slot is that of this prompt and sample."""
        position, expected = divmod(slot, self.samples)
        return sample == expected and self.inputs.is_id(position, prompt_id)

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
            slot = self.find(prompt_id, sample)
            if slot is None:
                self.removed.add(prompt_id, sample)
                continue
            if not self.inputs.is_fingerprint(slot // self.samples, fingerprint):
                self.changed.add(prompt_id, sample)
                continue
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

    def count(self, state: SlotState, first: int | None = None) -> int:
        """The number of slots in a state, among the first so many ones (None: all)."""
        return self._state.count(state, 0, first)

    def committed(self) -> int:
        """The number of slots whose row is committed, finished or a dead letter."""
        return len(self) - self.count(MISSING)

    def forget(self, state: SlotState) -> None:
        """Make the slots in a state missing. Their rows stay in the files."""
        for slot in self.in_state(state):
            self._state[slot] = MISSING

    def in_state(self, state: SlotState) -> Iterator[int]:
        """The slots in a state, in input order."""
        return (slot for slot, current in enumerate(self._state) if current == state)

    def _replaces(self, slot: int, state: SlotState, created: float) -> bool:
        current = self._state[slot]
        if current == state:
            return created > self._created[slot]
        return current == MISSING or state == FINISHED
