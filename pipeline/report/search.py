"""What a search reads: the terms of a block of rows with the rows that hold them, and the row of an
id.

A term is a part of an id, of the beginning of a prompt or of an answer, between white space. A
browser looks for a text in the distinct terms of a block, which are few, and not in its rows. So
a search finds the rows that have the text inside of a term, as a look through all rows would.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Rows of a block are numbered in two bytes.
MOST_ROWS = 65_536
# Rows of terms in a shard, about: no less than a term may have.
SHARD = 100_000
# About so many ids are in a script; a browser reads one to find a trace.
IDS = 16_384
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"t": "\t", "n": "\n"}


def terms_of(line: str) -> set[str]:
    """The terms of a row, of its line of words; see `index.Part`."""
    name, _, rest = line.split("\t", 2)
    if "\\" in name:
        name = _ESCAPED.sub(lambda found: _UNESCAPED.get(found[1], found[1]), name)
    return {*name.split(), *rest.split()}


def terms_data(lines: Sequence[str]) -> tuple[bytes, list[bytes]]:
    """The terms of rows, at most `MOST_ROWS`, and in shards the rows of each.

    Of the terms: how many there are, as four bytes; of each how many rows hold it, as two bytes;
    and the terms in order, a line each. Of the rows of a term: each as the distance from the one
    before, as two bytes. The rows of a term are together in the shard of the first of them.
    """
    numbers: dict[str, int] = {}
    terms, rows = array("I"), array("H")
    for row, line in enumerate(lines):
        found = terms_of(line)
        terms.extend([numbers.setdefault(term, len(numbers)) for term in found])
        rows.extend([row] * len(found))
    ordered = sorted(numbers)
    ranks = np.empty(len(ordered), dtype="u4")
    ranks[[numbers[term] for term in ordered]] = np.arange(len(ordered))
    sizes, gaps = _gaps(ranks[np.asarray(terms)], np.asarray(rows), len(ordered))
    text = "\n".join(ordered).encode()
    count = np.uint32(len(ordered)).astype("<u4").tobytes()
    return count + sizes.astype("<u2").tobytes() + text, list(_shards(sizes, gaps))


def _gaps(terms: Array, rows: Array, count: int) -> tuple[Array, Array]:
    """How many rows each of `count` terms has, and their rows as distances, term after term."""
    # Stable: the rows of a term stay in their order.
    ordered = rows[np.argsort(terms, kind="stable")]
    sizes = np.bincount(terms, minlength=count)
    firsts = np.cumsum(sizes) - sizes
    gaps = np.diff(ordered, prepend=ordered[:1])
    gaps[firsts] = ordered[firsts]
    return sizes, gaps


def _shards(sizes: Array, gaps: Array) -> Iterator[bytes]:
    firsts = np.cumsum(sizes) - sizes
    starts = firsts[np.flatnonzero(np.diff(firsts // SHARD)) + 1]
    yield from (some.astype("<u2").tobytes() for some in np.split(gaps, starts))


def id_hash(name: str) -> int:
    """Four bytes of an id; the page computes the same ones."""
    return crc32(name.encode())


def id_bits(rows: int) -> int:
    """How many bits of an id's hash choose the script of so many rows' ids that holds it."""
    return max(0, (rows - 1) // IDS).bit_length()


def id_scripts(hashes: Array) -> Iterator[bytes]:
    """The data of each script of ids: the hashes in order, and then their rows."""
    bits = id_bits(len(hashes))
    rows = np.argsort(hashes, kind="stable").astype("<u4")
    ordered = hashes[rows].astype("<u4")
    edges = np.arange(1, 1 << bits, dtype="u8") << np.uint64(32 - bits)
    ends = np.searchsorted(ordered, edges)
    for some, of in zip(np.split(ordered, ends), np.split(rows, ends), strict=True):
        yield some.tobytes() + of.tobytes()
