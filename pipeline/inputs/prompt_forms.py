"""How many prompts of an input have a system turn or tools: some chat templates take neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from nabla_core.types import Prompt
from pipeline.inputs.prompts import Item

Form = Literal["system", "tools"]


@dataclass
class PromptForms:
    """The prompts that were read, and how many of them have each form."""

    prompts: int = 0
    counts: Counter[Form] = field(default_factory=Counter)

    def counted(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, counted as they are read."""
        for item in items:
            self.prompts += 1
            self.counts.update(forms_of(item.prompt))
            yield item

    def common(self, fraction: float) -> frozenset[Form]:
        """The forms of more than this fraction of the prompts."""
        most = fraction * max(1, self.prompts)
        return frozenset(form for form, count in self.counts.items() if count > most)


def forms_of(prompt: Prompt) -> Iterator[Form]:
    if prompt.system is not None or any(turn["role"] == "system" for turn in prompt.messages):
        yield "system"
    if prompt.tools is not None:
        yield "tools"
