"""Near duplicates by MinHash (rensa) and locality-sensitive hashing.

A row has a signature of `permutations` numbers of 32 bits; the share of equal numbers estimates the
Jaccard similarity of two rows' word shingles. Signatures are cut into bands: rows that agree in a
whole band are candidates, and their signatures are compared. Signatures lie in a temporary file,
and one band is in memory at a time: 12 bytes a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.export.benchmarks import words_of
from pipeline.export.config import NearDuplicates
from pipeline.store.run_folder import translate_os_errors

Array = npt.NDArray[Any]
_BLOCK = 1 << 14  # rows that are read at a time


class Signatures:
    """Signatures of rows, in a temporary file. Use it as a context manager. Its methods raise
    RunError where the disk of temporary files is full."""

    def __init__(self, settings: NearDuplicates) -> None:
        self._settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="nabla-export-")
        self._path = Path(self._folder.name) / "signatures"
        self._file = open(self._path, "wb")  # noqa: SIM115 - closed by __exit__
        self._rows: list[Array] = []

    def __enter__(self) -> Signatures:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what could not be written has been told
            self._file.close()
        self._folder.cleanup()

    def add(self, rows: Array, texts: Sequence[str]) -> None:
        """Append the signatures of rows, given by number, with their texts."""
        from rensa import RMinHash  # noqa: PLC0415 - an optional package

        settings = self._settings
        found = RMinHash.digests_from_token_sets(
            [_shingles(text, settings.shingle) for text in texts], settings.permutations, 1
        )
        with translate_os_errors(self._folder.name, "temporary folder"):
            self._file.write(np.asarray(found, dtype=np.uint32).tobytes())
        self._rows.append(np.asarray(rows, dtype=np.int64))

    def duplicates(self) -> Array:
        """The numbers of the rows that are near duplicates of an earlier one."""
        if not self._rows:
            return np.zeros(0, dtype=np.int64)
        with translate_os_errors(self._folder.name, "temporary folder"):
            self._file.flush()
        rows = np.concatenate(self._rows)
        width, threshold = self._settings.permutations, self._settings.threshold
        assert threshold is not None
        duplicate = np.zeros(len(rows), dtype=bool)
        size = band_rows(width, threshold)
        for start in range(0, width - size + 1, size):
            # Mapped anew for each band: pages of the file that were touched count as memory.
            signatures = np.memmap(self._path, dtype=np.uint32, mode="r", shape=(len(rows), width))
            hashes = _band_hashes(self._path, width, slice(start, start + size), len(rows))
            _mark(signatures, hashes, threshold, duplicate)
        return rows[duplicate]


def band_rows(permutations: int, threshold: float) -> int:
    """Numbers of a band: as many as leave two rows of this similarity in different bands with a
    probability of 1 in 1,000 at most."""
    sizes = range(1, permutations + 1)
    missed = [(1 - threshold**size) ** (permutations // size) for size in sizes]
    return max((size for size, p in zip(sizes, missed, strict=True) if p <= 1e-3), default=1)


def _band_hashes(path: Path, width: int, band: slice, count: int) -> Array:
    """A hash of the numbers of a band for each row, read from the file in blocks."""
    hashes = np.zeros(count, dtype=np.uint64)
    with path.open("rb") as file:
        for start in range(0, count, _BLOCK):
            rows = min(_BLOCK, count - start)
            block = np.fromfile(file, np.uint32, rows * width).reshape(rows, width)
            # FNV-1a over the numbers of the band.
            part = np.full(rows, 0xCBF29CE484222325, np.uint64)
            for column in block[:, band].T:
                part = (part ^ column.astype(np.uint64)) * np.uint64(0x100000001B3)
            hashes[start : start + rows] = part
    return hashes


def _mark(signatures: Array, hashes: Array, threshold: float, duplicate: Array) -> None:
    """Mark the rows that are near an earlier row of the same band value."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(order)]
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        _mark_group(signatures, order[start:end], threshold, duplicate)


def _mark_group(signatures: Array, rows: Array, threshold: float, duplicate: Array) -> None:
    """Rows in their order; each that is not marked marks those behind it that are near."""
    left = rows[~duplicate[rows]]
    while len(left) > 1:
        first, others = left[0], left[1:]
        near = (signatures[others] == signatures[first]).mean(axis=1) >= threshold
        duplicate[others[near]] = True
        left = others[~near]


def _shingles(text: str, size: int) -> list[str]:
    words = words_of(text)
    if len(words) <= size:
        return [" ".join(words)]
    return [" ".join(words[n : n + size]) for n in range(len(words) - size + 1)]
