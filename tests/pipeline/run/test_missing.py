"""The prompts of a round are read as they are consumed, and an input that was edited meanwhile ends
the run."""

from dataclasses import replace
from itertools import islice

import pytest

from pipeline.errors import InputError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.inputs.prompts import index
from pipeline.run.missing import read_slots
from pipeline.store.slots import Slots
from tests.pipeline.rows import item


def plan_of(items):
    return replace(plan(GenerateConfig()), read=lambda: iter(items), source="prompts.jsonl")


def test_the_chosen_slots_come_in_the_order_of_the_input_with_their_samples():
    items = [item(name) for name in "abc"]
    slots = Slots(index(items, "prompts.jsonl"), 2)
    found = list(read_slots(plan_of(items), slots, {1, 4, 5}.__contains__))
    assert found == [item("a", sample=1), item("c", sample=0), item("c", sample=1)]


def test_prompts_are_read_as_they_are_consumed():
    items = [item(f"p{n}") for n in range(100)]
    slots = Slots(index(items, "prompts.jsonl"), 1)
    taken = []
    counted = replace(plan_of(items), read=lambda: (taken.append(i) or i for i in items))
    list(islice(read_slots(counted, slots, lambda slot: True), 3))
    assert len(taken) == 3


@pytest.mark.parametrize(
    "now",
    [
        [item("a"), item("b", text="edited"), item("c")],
        [item("a"), item("c"), item("b")],
        [item("a"), item("new"), item("b"), item("c")],
    ],
)
def test_a_prompt_that_was_edited_or_moved_is_named(now):
    slots = Slots(index([item(name) for name in "abc"], "prompts.jsonl"), 1)
    with pytest.raises(InputError, match=rf"prompts.jsonl was changed .*'{now[1].prompt.id}'"):
        list(read_slots(plan_of(now), slots, lambda slot: True))


def test_an_input_that_was_cut_is_noticed_and_one_that_grew_is_no_error():
    items = [item(name) for name in "abc"]
    slots = Slots(index(items, "prompts.jsonl"), 1)
    with pytest.raises(InputError, match="it holds 2 prompts and held 3"):
        list(read_slots(plan_of(items[:2]), slots, lambda slot: True))
    grown = plan_of([*items, item("d")])
    assert list(read_slots(grown, slots, lambda slot: True)) == items
