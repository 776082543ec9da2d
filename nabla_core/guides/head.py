"""The head guide: what every replacement is worth, predicted in one forward pass.

A causal backbone and a linear head: at the token before position i, `W h` are the advantages
A_i `[V]` of every token that could stand at i, in the judge's units. Causal, for the tail
behind i is rolled out anew: what a replacement is worth depends on the prefix alone. No
backward pass is taken, of the LM neither: the likelihood has its say in the ranking itself.

In a folder it is a causal LM of transformers whose output layer is `W`, with `nabla_guide:
head` in its config; advantages in place of logits are all that sets it apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective
from nabla_core.errors import ContextError, ModelError
from nabla_core.guides.base import Look
from nabla_core.models.forward import Reading, read
from nabla_core.models.kv_cache import Memory
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import Task, check_finite, read_lm, spoken
from nabla_core.models.vocab import VocabularyMap

KIND_KEY = "nabla_guide"


@dataclass(eq=False)
class Advantages:
    """`hidden` `[T-start, D]` of the head's backbone, from which the rows `W h` at positions
    from `start` on are formed when somebody asks. Where the token taken is not
    `known` to the head (a stop token, behind a chat template), nothing is worth more than it."""

    start: int
    hidden: Tensor
    known: Sequence[bool]


class HeadGuide:
    """An LM and a head. See `sweeps.Guide`."""

    judges = False

    def __init__(
        self, lm: LanguageModel, head: LanguageModel, vocabulary: VocabularyMap, *, keep: bool
    ) -> None:
        self.lm = lm
        self.head = head
        self.vocabulary = vocabulary
        self._keep = keep
        self._ids = vocabulary.ids.clamp(min=0).to(head.device)

    def check(self, config: NablaConfig) -> None:
        """Raises ModelError where a config cannot do without a gradient."""
        if config.needs_gradient:
            raise ModelError(
                f"reward.guide {self.head.source} is a head: it predicts what tokens are "
                "worth and has no gradient, which proposals: left_to_right with dto.optimizer: "
                "adam needs; use proposals: ranked, or dto.optimizer: mirror"
            )

    def look(
        self, tasks: Sequence[Task], lm_memories: Sequence[Memory | None], config: NablaConfig
    ) -> list[Look]:
        self.check(config)
        lm_tasks = [
            Task(t.context, t.tokens, t.start, memory)
            for t, memory in zip(tasks, lm_memories, strict=True)
        ]
        with torch.no_grad():
            lm_reads = read_lm(self.lm, lm_tasks, gradient=False)
            advantages = self._advantages(tasks)
        looks = []
        for task, lm_task, lm, (found, memory) in zip(
            tasks, lm_tasks, lm_reads, advantages, strict=True
        ):
            task.cost += lm_task.cost
            task.book(paper_calls=2)
            looks.append(Look(lm, found, memory, None))
        return looks

    def rows(
        self, chosen: Sequence[tuple[Advantages, int]], objective: Objective, logits: Tensor
    ) -> Tensor:
        """`-reward_coeff * A`: rows of a loss, as a gradient's are. `nll_coeff` has no say."""
        hidden = torch.stack([a.hidden[i - a.start] for a, i in chosen])
        rows = self.head.head(hidden).float()[:, self._ids]
        check_finite("predicted advantage", [rows])
        known = torch.tensor([a.known[i - a.start] for a, i in chosen], device=rows.device)
        rows = rows.where(known[:, None], 0.0)
        return -objective.reward_coeff * rows

    def row_flops(self, objective: Objective) -> float:
        return self.head.shape.head(1)

    def _advantages(self, tasks: Sequence[Task]) -> list[tuple[Advantages, Memory | None]]:
        """One forward pass over each response but for its last token, after which nothing
        stands."""
        readings = []
        for task in tasks:
            before = task.context.guide[0]
            body = self.vocabulary.translate(spoken(self.head.tokenizer, self.lm.stop, task.tokens))
            tokens = (*before, *body)[: len(before) + len(task.tokens) - 1]
            if len(tokens) > self.head.context:
                raise ContextError(
                    f"prompt and response are {len(tokens)} tokens to the guide, whose context "
                    f"is {self.head.context}"
                )
            held = tokens[: len(before) - 1 + task.start]
            memory = task.memory.shared(held) if task.memory else None
            readings.append(Reading(tokens, memory if memory and memory.length else None))
        done = read(self.head.body, self.head.table, readings, gradient=False, keep=self._keep)
        found = []
        for row, (task, reading) in enumerate(zip(tasks, readings, strict=True)):
            first = len(task.context.guide[0]) - 1 + task.start - reading.held
            hidden = done.hidden[row, first : first + len(task.tokens) - task.start]
            memory = done.memory(row, len(reading.tokens)) if self._keep else None
            known = self.vocabulary.ids[list(task.tokens[task.start :])].ge(0).tolist()
            found.append((Advantages(task.start, hidden, known), memory))
            task.book(
                rm_forward=1,
                token_passes=reading.fed,
                flops=self.head.shape.forward(reading.fed, reading.held),
            )
        return found
