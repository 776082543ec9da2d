"""Where every row of the input stands: missing, finished or dead, and in which file.

A slot is one `(prompt_id, sample)`, numbered in the order of the input. Beyond the ids and
fingerprints of the input a slot costs 17 bytes, whatever its row weighs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

MISSING, FINISHED, DEAD = 0, 1, 2


@dataclass
class Slots:
    """`inputs` gives the fingerprint of each prompt id, in input order.

    `changed` names committed rows whose prompt says something else now, `vanished` those
    whose prompt is not in the input any more; neither fills a slot.
    """

    inputs: Mapping[str, str]
    samples: int
    files: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._position = {prompt_id: n for n, prompt_id in enumerate(self.inputs)}
        size = len(self.inputs) * self.samples
        self.state = bytearray(size)
        self._file = array("I", bytes(4 * size))
        self._row = array("I", bytes(4 * size))
        self._made = array("d", bytes(8 * size))

    def __len__(self) -> int:
        return len(self.state)

    def of(self, prompt_id: str, sample: int) -> int:
        """The number of a slot of the input."""
        return self._position[prompt_id] * self.samples + sample

    def belongs(self, prompt_id: str, sample: int, fingerprint: str) -> bool:
        """Whether a row answers this input."""
        return self.inputs.get(prompt_id) == fingerprint and sample < self.samples

    def where(self, slot: int) -> tuple[str, int]:
        """File and row number of a filled slot."""
        return self.files[self._file[slot]], self._row[slot]

    def add(self, file: str, keys: pa.Table) -> int:
        """Enter the rows of a file (columns `parts.KEY_COLUMNS`); returns how many were new.

        Of two rows for one slot a finished one beats a dead one, then the later one wins.
        """
        self.files.append(file)
        number = len(self.files) - 1
        new = 0
        columns = (keys[name].to_pylist() for name in keys.column_names)
        for row, (prompt_id, sample, fingerprint, made, error) in enumerate(
            zip(*columns, strict=True)
        ):
            position = self._position.get(prompt_id)
            if position is None or sample >= self.samples:
                self.vanished.append(f"{prompt_id}#{sample}")
            elif self.inputs[prompt_id] != fingerprint:
                self.changed.append(f"{prompt_id}#{sample}")
            else:
                slot = position * self.samples + sample
                state = FINISHED if error is None else DEAD
                new += self.state[slot] == MISSING
                if self._better(slot, state, made.timestamp()):
                    self.state[slot] = state
                    self._file[slot] = number
                    self._row[slot] = row
                    self._made[slot] = made.timestamp()
        return new

    def count(self, state: int) -> int:
        """Slots in a state."""
        return self.state.count(state)

    def forget(self, state: int) -> None:
        """Take the slots in a state for missing. What they held stays in the files."""
        for slot in list(self.in_state(state)):
            self.state[slot] = MISSING

    def in_state(self, state: int) -> Iterator[int]:
        """The slots in a state, in input order."""
        return (slot for slot, found in enumerate(self.state) if found == state)

    def key(self, slot: int, ids: list[str]) -> tuple[str, int]:
        """Prompt id and sample of a slot; `ids` are the keys of `inputs` as a list."""
        return ids[slot // self.samples], slot % self.samples

    def _better(self, slot: int, state: int, made: float) -> bool:
        held = self.state[slot]
        if held == state:
            return made > self._made[slot]
        return held == MISSING or state == FINISHED
