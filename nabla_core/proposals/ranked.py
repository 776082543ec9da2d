"""Ranked mirror proposals: every replacement at every position, best score first.

The minimiser of the linearised loss plus beta * KL(q || p_i) at position i is
q ~ p_i exp(-g_i / beta); it prefers b to y_i exactly when

    s_i(b) = (g_i[y_i] - g_i[b]) / beta + log p(b | y_<i) - log p(y_i | y_<i) > 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.config import Sampling
from nabla_core.guides.base import Gradients, Guide
from nabla_core.models.forward import BLOCK
from nabla_core.proposals.positions import banned_ids, hidden_at, norms, rows_at
from nabla_core.requests import Proposal, Propose, Reply, Result
from nabla_core.sampling import filtered_probabilities
from nabla_core.types import Cost


@dataclass(eq=False)
class _Ranking:
    """The best proposals of one response, best first. `cost` is what the ranking took; the first
    reply carries it."""

    proposals: list[Proposal]
    cost: Cost


def ranked(guide: Guide, requests: Sequence[Propose]) -> list[Result]:
    """For each request its best pairs that are untried and have a score above `min_score`."""
    results: list[Result] = []
    for request in requests:
        gradients: Gradients = request.gradients
        if gradients.plan is None:
            gradients.plan = _rank(guide, gradients)
        ranking: _Ranking = gradients.plan
        untried = [
            p
            for p in ranking.proposals
            if p.score > gradients.config.ranked.min_score
            and (p.position, p.to_token) not in request.tried
        ]
        results.append(Reply(untried[: request.count], ranking.cost))
        ranking.cost = Cost()
    return results


def _rank(guide: Guide, gradients: Gradients) -> _Ranking:
    """The ranking of one response, long enough for the whole search."""
    tokens = gradients.response.tokens
    # A rollout tries one pair, and an acceptance bars one more (the token just replaced).
    length = 2 * gradients.config.max_rollouts
    banned = banned_ids(guide)
    # Scores are formed for a block of positions at a time: [T, V] in fp32 would be 600 MB for
    # 1,000 tokens and a vocabulary of 150,000. Only the best pairs of a block are kept.
    block = max(1, BLOCK // guide.lm.head.out_features)
    ranking: list[Proposal] = []
    positions = list(range(gradients.start, len(tokens)))
    for start in range(0, len(positions), block):
        ranking += _rank_block(guide, gradients, positions[start : start + block], banned, length)
    # Ties are broken by position and id, so that the order never depends on the blocks.
    ranking.sort(key=lambda p: (-p.score, p.position, p.to_token))
    flops = guide.lm.shape.head(1)
    if gradients.config.uses_guide:
        flops += guide.row_flops(gradients.config.objective)
    return _Ranking(ranking[:length], Cost(flops=flops * len(positions)))


@dataclass(eq=False)
class _Scores:
    """Of n positions and all tokens: `score` (nats; -inf: not to be proposed) and `advantage`
    `[n, V]`, `grad_norm` `[n]`."""

    score: Tensor
    advantage: Tensor
    grad_norm: Tensor


def _rank_block(
    guide: Guide, gradients: Gradients, positions: list[int], banned: Tensor, count: int
) -> list[Proposal]:
    """The `count` best pairs at these positions."""
    scores = _scores(guide, gradients, positions, banned)
    best = scores.score.flatten().topk(min(count, scores.score.numel()))
    width = scores.score.size(-1)
    confidence = gradients.lm.likelihood.confidence
    proposals = []
    for value, flat in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        if value == float("-inf"):
            break
        row, b = divmod(flat, width)
        i = positions[row]
        proposals.append(
            Proposal(
                position=i,
                from_token=gradients.response.tokens[i],
                to_token=b,
                confidence=float(confidence[i - gradients.start]),
                grad_norm=float(scores.grad_norm[row]),
                advantage=float(scores.advantage[row, b]),
                score=value,
            )
        )
    return proposals


def _scores(guide: Guide, gradients: Gradients, positions: list[int], banned: Tensor) -> _Scores:
    """The score of the module's first lines, for every token at these positions."""
    config = gradients.config
    y = torch.tensor([gradients.response.tokens[i] for i in positions], device=guide.lm.device)
    logits = guide.lm.logits(hidden_at(gradients, positions))
    # log p(b) - log p(y_i): the normaliser of the softmax cancels.
    score = logits - logits.gather(-1, y[:, None])
    advantage = torch.zeros_like(score)
    grad_norm = torch.zeros(len(positions))
    if config.ranked.beta is not None:
        state = gradients.guide_states[gradients.response.tokens]
        g = rows_at(guide, [(gradients, state, i) for i in positions], logits)
        advantage = g.gather(-1, y[:, None]) - g
        grad_norm = norms(g, banned, config.select)
        score = score + advantage / config.ranked.beta
    score = score.masked_fill(banned, float("-inf"))
    if config.ranked.nucleus < 1:
        sampling = Sampling(temperature=1.0, top_p=config.ranked.nucleus)
        score = score.masked_fill(filtered_probabilities(logits, sampling) == 0, float("-inf"))
    # A token is no replacement for itself.
    score.scatter_(-1, y[:, None], float("-inf"))
    return _Scores(score, advantage, grad_norm)
