"""Guided decoding, word for word: one sequence, no batch, no cache.

Every token is drawn from p(b) exp(A(b) / beta), renormalised, over the tokens that min-p leaves of
p. p is the LM's law and A what the head predicts, both read from scratch at every step. This file
is the specification that rollouts with `Sampling.beta` are held to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nabla_core.config import Sampling
from nabla_core.draws import DrawKey, uniform
from tests.oracle.literal import sample_token


@dataclass
class GuidedModels:
    """An LM and a head as transformers loads them.

    `vocabulary`: ids of the LM that are tokens. `head_ids`: the head's id of each, -1 for a token
    that it does not know. `before(tokens)`: the head's ids in front of a response that starts
    with `tokens`.
    """

    lm: Any
    head: Any
    vocabulary: int
    head_ids: Sequence[int]
    before: Callable[[Sequence[int]], list[int]]
    stop: int


def guided_response(
    models: GuidedModels, x: Sequence[int], prefix: Sequence[int], *,
    sampling: Sampling, key: DrawKey, limit: int,
) -> tuple[int, ...]:  # fmt: skip
    """The response to a prompt `x` given as ids of the LM."""
    assert sampling.beta is not None
    y = list(prefix)
    while len(y) < limit and y[-1:] != [models.stop]:
        with torch.no_grad():
            logits = models.lm(input_ids=torch.tensor([[*x, *y]])).logits[0, -1].double()
            read = [*models.before(y), *(models.head_ids[token] for token in y)]
            outputs = models.head(input_ids=torch.tensor([read])).logits[0, -1].double()
        law = logits[: models.vocabulary].log_softmax(-1)
        law[law.exp() < sampling.min_p * law.exp().max()] = float("-inf")
        for b, own in enumerate(models.head_ids[: models.vocabulary]):
            advantage = float(outputs[own]) if own >= 0 else 0.0
            law[b] += advantage / sampling.beta
        law = law.log_softmax(-1)
        y.append(sample_token(law, sampling, uniform(key, len(y))))
    return tuple(y)
