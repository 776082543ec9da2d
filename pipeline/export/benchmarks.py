"""Decontamination: which rows share a run of words with a benchmark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

from pipeline.errors import InputError
from pipeline.export.config import Decontamination
from pipeline.inputs.sources import rows

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Hit:
    """What a row shares with a benchmark: its file, the row there, and the words."""

    benchmark: str
    location: str
    words: str


class Benchmarks:
    """The runs of words of benchmark files: 8 bytes and a reference each."""

    def __init__(self, settings: Decontamination) -> None:
        self._length = settings.words
        self._columns = settings.columns
        self._runs: dict[int, tuple[str, str]] = {}
        # Texts that are shorter than a run.
        self._short: dict[int, tuple[str, str]] = {}
        for file in settings.benchmarks:
            self._read(file)

    def _read(self, file: str) -> None:
        count = 0
        for row in rows(file, None, None, None, frozenset(self._columns)):
            where = (PurePath(file).name, row.location.replace(file, PurePath(file).name))
            for text in _texts([row.values.get(name) for name in self._columns]):
                count += 1
                words = words_of(text)
                if len(words) >= self._length:
                    for run in _runs(words, self._length):
                        self._runs.setdefault(_hash(run), where)
                elif words:
                    self._short.setdefault(_hash(words), where)
        if not count:
            raise InputError(
                f"filters.decontamination.benchmarks: {file} has no text in a column of "
                f"{', '.join(self._columns)} (filters.decontamination.columns)"
            )

    def hit(self, *texts: str) -> Hit | None:
        """The first run of words, or whole text, that a benchmark holds."""
        for text in texts:
            words = words_of(text)
            if found := self._short.get(_hash(words)):
                return Hit(*found, " ".join(words))
            for run in _runs(words, self._length):
                if found := self._runs.get(_hash(run)):
                    return Hit(*found, " ".join(run))
        return None


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value of a row, those in lists and mappings too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for below in value.values():
            yield from _texts(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _texts(below)


def _runs(words: Sequence[str], length: int) -> Iterator[Sequence[str]]:
    return (words[n : n + length] for n in range(len(words) - length + 1))


def _hash(words: Sequence[str]) -> int:
    return int.from_bytes(blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")
