"""The LM's most probable tokens at every position of a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nabla_core.engines.base import BatchEngine
from nabla_core.models.forward import BLOCK
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import Task, read_lm
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Choices, Likeliest, Reply, Request, Result
from nabla_core.types import Cost


class ChoicesEngine(BatchEngine):
    """Serves `Likeliest`. Leaves out tokens that the judge does not know."""

    kinds: tuple[type[Request[Any]], ...] = (Likeliest,)

    def __init__(
        self, lm: LanguageModel, judge: VocabularyMap, capacity: int, max_batch_tokens: int
    ) -> None:
        super().__init__(capacity, max_batch_tokens)
        self._lm = lm
        self._unknown = (judge.ids < 0).to(lm.device)

    def size(self, request: Likeliest) -> int:
        return len(request.context.lm) + len(request.response.tokens)

    @torch.inference_mode()
    def answer(self, requests: Sequence[Likeliest]) -> Sequence[Result]:
        tasks = [Task(r.context, r.response.tokens, 0, r.response.cache) for r in requests]
        reads = read_lm(self._lm, tasks, gradient=False)
        rows = max(1, BLOCK // self._lm.head.out_features)
        results: list[Result] = []
        for request, task, lm in zip(requests, tasks, reads, strict=True):
            taken = torch.tensor(request.response.tokens, device=self._lm.device)
            prompt = torch.tensor(request.context.lm, device=self._lm.device).unique()
            parts = [
                self._block(hidden, y, request.count, prompt, request.copied)
                for hidden, y in zip(lm.hidden.split(rows), taken.split(rows), strict=True)
            ]
            tokens = torch.cat([t for t, _ in parts]).tolist()
            values = torch.cat([v for _, v in parts])
            # Where fewer than `count` tokens are left, topk fills up with -inf.
            kept = values.isfinite().tolist()
            choices = [
                Choices(
                    confidence,
                    tuple(t for t, keep in zip(token_row, keep_row, strict=True) if keep),
                    tuple(v for v, keep in zip(value_row, keep_row, strict=True) if keep),
                )
                for confidence, token_row, value_row, keep_row in zip(
                    lm.likelihood.confidence.tolist(),
                    tokens,
                    values.tolist(),
                    kept,
                    strict=True,
                )
            ]
            cost = task.cost + Cost(paper_calls=1, flops=self._lm.shape.head(len(taken)))
            results.append(Reply(choices, cost))
        return results

    def _block(
        self, hidden: Tensor, taken: Tensor, count: int, prompt: Tensor, copied: int
    ) -> tuple[Tensor, Tensor]:
        """Tokens int64 and log-probabilities `[n, count + copied]`: the response's token first,
        those of `prompt` last. Hidden states `[n, D]`; a log-probability is -inf where there are
        too few tokens."""
        log_p = self._lm.logits(hidden).log_softmax(-1)
        own = log_p.gather(-1, taken[:, None])
        # A counterfactual with a token that the judge cannot read could not be scored.
        others = log_p.masked_fill(self._unknown, float("-inf"))
        others.scatter_(-1, taken[:, None], float("-inf"))
        best = others.topk(min(count - 1, others.size(-1)))
        tokens, values = [taken[:, None], best.indices], [own, best.values]
        if copied:
            # No token is tried twice.
            others.scatter_(-1, best.indices, float("-inf"))
            asked = others[:, prompt].topk(min(copied, len(prompt)))
            tokens.append(prompt[asked.indices])
            values.append(asked.values)
        return torch.cat(tokens, -1), torch.cat(values, -1)
