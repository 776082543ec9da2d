"""The index of an input gives what a dict of ids and fingerprints gives, in fewer bytes."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.input_index import InputIndex
from pipeline.store.slots import Slots

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=60), st.lists(TEXTS, max_size=20))
def test_an_index_knows_what_a_dict_knows(prompts, others):
    index, reference = InputIndex(), {}
    for prompt_id, fingerprint in prompts:
        assert index.add(prompt_id, fingerprint) is (prompt_id not in reference)
        reference.setdefault(prompt_id, fingerprint)
    ids = list(reference)
    assert len(index) == len(ids)
    for prompt_id in [*ids, *others]:
        position = index.position(prompt_id)
        assert position == (ids.index(prompt_id) if prompt_id in reference else None)
    for position, prompt_id in enumerate(ids):
        assert [index.is_id(position, other) for other in ids] == [
            other == prompt_id for other in ids
        ]
        for fingerprint in {*reference.values(), *others}:
            expected = fingerprint == reference[prompt_id]
            assert index.is_fingerprint(position, fingerprint) is expected


def test_prompts_are_found_after_the_table_has_grown_many_times():
    ids = [f"prompt {n}" for n in range(20_000)]
    index = InputIndex((prompt_id, "f") for prompt_id in ids)
    assert [index.position(prompt_id) for prompt_id in ids] == list(range(len(ids)))
    assert all(index.position(f"other {n}") is None for n in range(1000))


def test_digests_differ_by_id_fingerprint_and_nothing_else():
    index = InputIndex([("a", "f"), ("b", "f"), ("c", "g")])
    same = InputIndex([("c", "g"), ("b", "other"), ("a", "f")])
    assert len({index.digest(n) for n in range(3)}) == 3
    assert [same.digest(n) for n in (2, 0)] == [index.digest(n) for n in (0, 2)]
    assert same.digest(1) != index.digest(1)


def test_an_id_that_repeats_is_named():
    with pytest.raises(ValueError, match="'a' occurs more than once"):
        InputIndex([("a", "f"), ("b", "f"), ("a", "g")])


@pytest.mark.parametrize("count", [43_691, 100_000, 174_763])
def test_ids_fingerprints_and_slots_take_at_most_64_bytes_a_prompt(count):
    # The first and the last are sizes at which the hash table has just grown.
    tracemalloc.start()
    try:
        slots = Slots(
            InputIndex((f"a rather long id {n:09d}", f"{n:016x}") for n in range(count)), 1
        )
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(slots) == count
    assert held <= 64 * count
