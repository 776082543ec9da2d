"""Which rows are there, and which of two rows for one slot counts."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from pipeline.errors import ConfigError
from pipeline.store.input_index import InputIndex
from pipeline.store.parts import KEY_COLUMNS
from pipeline.store.slots import DEAD, FINISHED, MISSING, Slots
from tests.pipeline.rows import inputs, item, row, store_in

START = datetime(2026, 1, 1, tzinfo=UTC)


def table(*rows: tuple[str, int, int, str | None], fingerprint: str = "f") -> pa.Table:
    """Key columns of rows, each given as id, sample, seconds since `START` and error."""
    columns = zip(*((i, s, fingerprint, START + timedelta(seconds=t), e) for i, s, t, e in rows))  # noqa: B905
    return pa.table(dict(zip(KEY_COLUMNS, map(list, columns), strict=True)))


def test_samples_are_slots_of_their_own(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0", sample=1)), row(item("p1", sample=0))])
    slots = store.scan(inputs(["p0", "p1"]), 2)
    missing = list(slots.in_state(MISSING))
    assert missing == [slots.find("p0", 0), slots.find("p1", 1)]


def test_a_finished_row_beats_a_dead_one_and_a_later_row_an_earlier_one():
    slots = Slots(InputIndex([("a", "f"), ("b", "f")]), 1)
    assert slots.add("one", table(("a", 0, 5, "E: x"), ("b", 0, 5, None))) == 2
    assert slots.add("two", table(("a", 0, 1, None), ("b", 0, 9, "E: x"))) == 0
    assert slots.add("three", table(("a", 0, 3, None), ("b", 0, 4, None))) == 0
    assert slots.count(FINISHED) == 2
    assert (slots.location(0), slots.location(1)) == (("three", 0), ("one", 1))


def test_rows_of_edited_and_removed_prompts_fill_no_slot():
    slots = Slots(InputIndex([("a", "f")]), 1)
    assert slots.add("one", table(("a", 0, 0, None), fingerprint="edited")) == 0
    assert slots.add("two", table(("gone", 0, 0, None), ("a", 1, 0, None))) == 0
    assert (slots.changed.count, slots.removed.count) == (1, 2)
    assert (slots.changed.names, slots.removed.names) == (["a#0"], ["gone#0", "a#1"])
    assert list(slots.in_state(MISSING)) == [0]
    assert slots.accepts("a", 0, "f")
    assert not slots.accepts("a", 0, "edited")
    assert not slots.accepts("a", 1, "f")
    assert not slots.accepts("gone", 0, "f")


def test_forgotten_slots_are_missing_and_others_stay():
    slots = Slots(InputIndex([("a", "f"), ("b", "f")]), 2)
    slots.add("one", table(("a", 1, 0, "E: x"), ("b", 0, 0, None)))
    slots.forget(DEAD)
    assert list(slots.in_state(FINISHED)) == [slots.find("b", 0)]
    assert slots.count(MISSING) == 3
    assert len(slots) == 4


def test_more_rows_than_memory_holds_are_one_sentence():
    for samples in (10**15, 2**63 - 1):
        with pytest.raises(ConfigError, match=r"2 prompts with .* samples each: the list of these"):
            Slots(inputs(["a", "b"]), samples)
