"""Which rows without an id repeat the content of an earlier row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from itertools import count


class Repeats:
    """How many earlier rows have the content of each row, over several readings of one input.

    The first complete reading finds that out with a hash table. It keeps 8 bytes for each row that
    repeats another one, and later readings need no table: one of them lasts as long as a run.
    """

    def __init__(self) -> None:
        self._rows, self._numbers = array("I"), array("I")
        self._complete = False

    def reading(self) -> Callable[[str], int]:
        """Begin a reading. Call the result for each row without an id, in their order, with 16 hex
        digits of the row's content: it gives the number of earlier rows with that content."""
        return self._replay() if self._complete else self._count()

    def complete(self) -> None:
        """All rows were read."""
        self._complete = True

    def _count(self) -> Callable[[str], int]:
        self._rows, self._numbers = array("I"), array("I")
        seen, place = _Seen(), count()

        def earlier(content: str) -> int:
            row, number = next(place), seen.add(int(content, 16))
            if number:
                self._rows.append(row)
                self._numbers.append(number)
            return number

        return earlier

    def _replay(self) -> Callable[[str], int]:
        repeats, place = zip(self._rows, self._numbers, strict=True), count()
        following = next(repeats, None)

        def earlier(content: str) -> int:
            nonlocal following
            row = next(place)
            if following is None or following[0] != row:
                return 0
            _, number = following
            following = next(repeats, None)
            return number

        return earlier


class _Seen:
    """A set of 64-bit numbers in at most 24 bytes a number, which counts those added again."""

    def __init__(self) -> None:
        # A hash table with open addressing and linear probing; 0 is an empty entry. The numbers are
        # digests, so their lowest bits are a hash.
        self._table = array("Q", bytes(8 * 1024))
        self._size = 0
        self._again: Counter[int] = Counter()

    def add(self, number: int) -> int:
        """How often the number was added before."""
        number = number or 1
        place = self._place(number)
        if self._table[place]:
            self._again[number] += 1
            return self._again[number]
        self._table[place] = number
        self._size += 1
        if 3 * self._size >= 2 * len(self._table):
            self._grow()
        return 0

    def _place(self, number: int) -> int:
        table = self._table
        mask = len(table) - 1
        place = number & mask
        while (entry := table[place]) and entry != number:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        former, self._table = self._table, array("Q", bytes(16 * len(self._table)))
        for number in former:
            if number:
                self._table[self._place(number)] = number
