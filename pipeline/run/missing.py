"""The prompts that a round runs, read from the input as the workers take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from pipeline.errors import InputError
from pipeline.inputs.prompts import Item
from pipeline.run.plan import Plan
from pipeline.store.slots import Slots


def read_slots(plan: Plan, slots: Slots, chosen: Callable[[int], bool]) -> Iterator[Item]:
    """The prompts of the chosen slots, in input order. Reads the input as it is consumed.

    Raises InputError where the input is no more the one that the slots were made of: a run may
    take days, and the file may be edited meanwhile.
    """
    inputs, samples = slots.inputs, slots.samples
    read = 0
    for position, item in enumerate(islice(plan.read(), len(inputs))):
        read += 1
        numbers = [n for n in range(samples) if chosen(position * samples + n)]
        if not numbers:
            continue
        prompt, fingerprint = item.prompt, item.fingerprint
        if not (inputs.is_id(position, prompt.id) and inputs.is_fingerprint(position, fingerprint)):
            raise InputError(
                f"{plan.source} was changed while the run read it: at the place of prompt "
                f"{prompt.id!r} another one was found when the run began"
            )
        for number in numbers:
            yield Item(replace(prompt, sample=number), fingerprint)
    if read < len(inputs):
        raise InputError(
            f"{plan.source} was changed while the run read it: it holds {read} prompts and held "
            f"{len(inputs)} when the run began"
        )
