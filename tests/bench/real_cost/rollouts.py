"""The same greedy responses from the rollout engine and from transformers.generate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from nabla_core.draws import DrawKey
from nabla_core.engines.base import Engine
from nabla_core.requests import Context, Rollout
from tests.bench.arms import GREEDY
from tests.bench.real_cost.models import Models, prompt_ids

Asked = tuple[int, tuple[int, ...]]


@dataclass(kw_only=True)
class RolloutsAndGenerate:
    """Requests (token limit, prompt ids), and the responses of both sides: `mine` and `plain`."""

    models: Models
    batch: int
    asked: Sequence[Asked]
    engine: Engine
    mine: list[list[int]] = field(default_factory=list)
    plain: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, models: Models, batch: int, count: int, limit: int) -> RolloutsAndGenerate:
        """`count` requests with limits from an eighth of `limit` to all of it, in no order."""
        limits = [max(1, limit * (1 + (5 * i) % 8) // 8) for i in range(count)]
        asked = list(zip(limits, prompt_ids(models, count), strict=True))
        runtime = {"max_batch": batch, "device": str(models.lm.device)}
        engine = models.engines(**runtime).serving(Rollout)
        return cls(models=models, batch=batch, asked=asked, engine=engine)

    def rollouts(self) -> None:
        """All requests at once to an engine of `batch` rows."""
        self.mine = [[] for _ in self.asked]
        for i, (limit, ids) in enumerate(self.asked):
            context = Context("", ids, (ids, ()), (ids, ()))
            key = DrawKey(0, str(i), 0, "rollout")
            self.engine.submit(i, Rollout(context, (), limit, GREEDY, key))
        while self.engine.waiting:
            for i, reply in self.engine.step():
                if isinstance(reply, Exception):
                    raise reply
                self.mine[i] = list(reply.value.tokens)

    def generate(self) -> None:
        """Padded batches of transformers, in the order of the requests."""
        self.plain = []
        for first in range(0, len(self.asked), self.batch):
            self.plain += self._generate(self.asked[first : first + self.batch])

    def _generate(self, asked: Sequence[Asked]) -> list[list[int]]:
        """Each response up to its own limit or its stop token."""
        width = max(len(ids) for _, ids in asked)
        padded = torch.tensor([(0,) * (width - len(ids)) + ids for _, ids in asked])
        mask = torch.tensor([(0,) * (width - len(ids)) + (1,) * len(ids) for _, ids in asked])
        with torch.inference_mode():
            found = self.models.plain_lm.generate(
                input_ids=padded.to(self.models.lm.device),
                attention_mask=mask.to(self.models.lm.device),
                max_new_tokens=max(limit for limit, _ in asked),
                do_sample=False,
            )[:, width:].tolist()
        return [self._until_stop(row[:limit]) for row, (limit, _) in zip(found, asked, strict=True)]

    def _until_stop(self, tokens: list[int]) -> list[int]:
        stop = self.models.lm.stop
        end = next((i + 1 for i, token in enumerate(tokens) if token in stop), len(tokens))
        return tokens[:end]
