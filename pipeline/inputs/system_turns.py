"""How many prompts of an input have a system turn: some chat templates refuse them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nabla_core.types import Prompt
from pipeline.inputs.prompts import Item


@dataclass
class SystemTurns:
    """The prompts that were read, and how many of them have a system turn."""

    prompts: int = 0
    with_turn: int = 0

    def counted(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, counted as they are read."""
        for item in items:
            self.prompts += 1
            if has_system_turn(item.prompt):
                self.with_turn += 1
            yield item

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.with_turn / max(1, self.prompts)


def has_system_turn(prompt: Prompt) -> bool:
    return prompt.system is not None or any(turn["role"] == "system" for turn in prompt.messages)
