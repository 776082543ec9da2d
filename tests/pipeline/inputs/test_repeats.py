"""Repeated rows are counted in the first reading as by a Counter, and known in all later ones."""

import tracemalloc
from collections import Counter
from hashlib import blake2b
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inputs.prompts import Prompts, read
from pipeline.inputs.repeats import Repeats
from tests.pipeline.inputs.sources import lines


def content(n):
    return blake2b(b"%d" % n, digest_size=8).hexdigest()


@given(st.lists(st.integers(0, 9), max_size=80))
def test_every_reading_gives_the_number_of_earlier_rows_with_that_content(rows):
    earlier, expected = Counter(), []
    for n in rows:
        expected.append(earlier[n])
        earlier[n] += 1
    repeats = Repeats()
    for _ in range(3):
        reading = repeats.reading()
        assert [reading(content(n)) for n in rows] == expected
        repeats.complete()


def test_a_reading_that_ended_early_is_not_taken_for_the_whole_input(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"prompt": t} for t in "abcabca"])
    repeats = Repeats()
    list(islice(read(Prompts(path=path), repeats), 4))
    whole = [item.prompt.id for item in read(Prompts(path=path), repeats)]
    assert whole == [item.prompt.id for item in read(Prompts(path=path))]
    assert [item.prompt.id for item in read(Prompts(path=path), repeats)] == whole
    assert [len(prompt_id) for prompt_id in whole] == [16, 16, 16, 18, 18, 18, 18]


@pytest.mark.parametrize(("complete", "most"), [(False, 26), (True, 1)])
def test_a_reading_takes_few_bytes_a_row_and_a_later_one_hardly_any(complete, most):
    repeats = Repeats()
    if complete:
        repeats.reading()
        repeats.complete()
    count = 43_691  # the table of a first reading has just grown
    tracemalloc.start()
    try:
        reading = repeats.reading()
        for n in range(count):
            reading(content(n))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= most * count
