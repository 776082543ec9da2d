"""KL(policy || reference) from responses of the policy, one forward pass of each.

With x the prompt, p the reference LM and q the policy, the divergence of the laws of responses is

    KL(q || p) = E_{y ~ q} [ sum_t KL(q(. | x, y_<t) || p(. | x, y_<t)) ]

by the chain rule. The sum in the bracket needs whole next-token laws, which a forward pass gives.
It is the conditional mean of the plain estimator log q(y | x) - log p(y | x), token by token. So it
is unbiased too, and it varies less and is never negative (Amini et al., arXiv 2504.10637).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Sampling, check
from nabla_core.engines.base import BatchEngine
from nabla_core.guides.head import HeadGuide
from nabla_core.guides.value_head import ValueHeadGuide
from nabla_core.models.forward import BLOCK
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import Task, read_lm
from nabla_core.requests import Diverge, Divergence, Reply, Request, Result
from nabla_core.sampling import filtered_probabilities, without_unlikely

_HEAD = NablaConfig(proposals="ranked")


@dataclass(frozen=True, eq=False, kw_only=True)
class Law:
    """The law that a policy draws its tokens from: an LM, how a token is drawn, and the guide where
    `sampling.beta` is set. Raises ValueError at temperature 0 and without that guide."""

    lm: LanguageModel
    sampling: Sampling
    guide: HeadGuide | ValueHeadGuide | None = None

    def __post_init__(self) -> None:
        check(self.sampling.temperature > 0, "a greedy policy has no law that is drawn from")
        check(self.sampling.beta is None or self.guide is not None, "a guided law needs its guide")


class DivergenceEngine(BatchEngine):
    """Serves `Diverge`. Without a `law` only the reference reads."""

    kinds: tuple[type[Request[Any]], ...] = (Diverge,)

    def __init__(
        self, reference: LanguageModel, law: Law | None, capacity: int, max_batch_tokens: int
    ) -> None:
        super().__init__(capacity, max_batch_tokens)
        self._reference = reference
        self.law = law

    def size(self, request: Diverge) -> int:
        return len(request.context.lm) + len(request.tokens)

    @torch.inference_mode()
    def answer(self, requests: Sequence[Diverge]) -> Sequence[Result]:
        tasks = [Task(r.context, r.tokens) for r in requests]
        reads = read_lm(self._reference, tasks, gradient=False)
        if self.law is None:
            return [
                Reply(
                    # In float64: a divergence is a small difference of large sums.
                    Divergence(float(read.likelihood.log_probability.double().sum())),
                    task.cost,
                )
                for read, task in zip(reads, tasks, strict=True)
            ]
        results: list[Result] = []
        for request, task, read, (hidden, guided) in zip(
            requests, tasks, reads, self._read_policy(self.law, requests), strict=True
        ):
            found = self._diverge(self.law, request.tokens, read.hidden, hidden, guided)
            results.append(Reply(found, task.cost))
        return results

    def _read_policy(
        self, law: Law, requests: Sequence[Diverge]
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Of each response the hidden states of the policy's LM and, in a guided law, of the guide:
        `[T, D]`, at the tokens that predict the response's."""
        tasks = [Task(r.context, r.tokens) for r in requests]
        if law.sampling.beta is None or law.guide is None:
            return [(read.hidden, None) for read in read_lm(law.lm, tasks, gradient=False)]
        reads = law.guide.read(tasks, [None] * len(tasks), _HEAD)
        return [(read.lm.hidden, read.guide_state.hidden) for read in reads]

    def _diverge(
        self,
        law: Law,
        tokens: Sequence[int],
        reference: Tensor,
        policy: Tensor,
        guided: Tensor | None,
    ) -> Divergence:
        """Sums over the tokens; hidden states `[T, D]` of both LMs, and of the guide."""
        totals = torch.zeros(3, dtype=torch.float64)
        # A block of positions at a time: a law over 150,000 tokens takes a megabyte in float64.
        size = max(1, BLOCK // self._reference.head.out_features)
        for first in range(0, len(tokens), size):
            part = slice(first, first + size)
            log_p = self._reference.logits(reference[part]).double().log_softmax(-1)
            logits = law.lm.logits(policy[part])
            if law.sampling.min_p:
                logits = without_unlikely(logits, law.sampling.min_p)
            if guided is not None and law.guide is not None and law.sampling.beta is not None:
                logits = logits + law.guide.next_advantages(guided[part]) / law.sampling.beta
            q = filtered_probabilities(logits, law.sampling)
            q = q / q.sum(-1, keepdim=True)
            taken = torch.tensor(tokens[part], device=q.device)[:, None]
            # What is never drawn adds nothing, whatever its probability under the reference.
            terms = torch.where(q > 0, q * (q.log() - log_p), 0.0)
            sums = [log_p.gather(-1, taken), q.log().gather(-1, taken), terms]
            totals += torch.stack([one.sum() for one in sums]).cpu()
        log_reference, log_policy, kl = totals.tolist()
        return Divergence(log_reference, log_policy, kl)
