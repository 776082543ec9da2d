"""Ranked mirror proposals: every replacement at every position, best first.

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
from nabla_core.proposals.positions import banned_ids, norms, row_flops, rows_at
from nabla_core.requests import Proposal, Propose, Reply, Result
from nabla_core.sampling import filtered_probabilities
from nabla_core.types import Cost


@dataclass(eq=False)
class _Ranking:
    """The best proposals of one response, best first. `cost` is what the ranking took, until
    a reply books it."""

    proposals: list[Proposal]
    cost: Cost


def ranked(guide: Guide, requests: Sequence[Propose]) -> list[Result]:
    """The best untried pairs above `min_score` of each request."""
    results: list[Result] = []
    for request in requests:
        gradients: Gradients = request.gradients
        if gradients.plan is None:
            gradients.plan = _rank(guide, gradients)
        ranking: _Ranking = gradients.plan
        found = [
            p
            for p in ranking.proposals
            if p.score > gradients.config.ranked.min_score
            and (p.position, p.to_token) not in request.tried
        ]
        results.append(Reply(found[: request.count], ranking.cost))
        ranking.cost = Cost()
    return results


def _rank(guide: Guide, gradients: Gradients) -> _Ranking:
    """As many pairs as the search can ever ask for: each rollout tries one."""
    tokens = gradients.response.tokens
    most = 2 * gradients.config.max_rollouts
    banned = banned_ids(guide)
    block = max(1, BLOCK // guide.lm.head.out_features)
    found: list[Proposal] = []
    positions = list(range(gradients.start, len(tokens)))
    for start in range(0, len(positions), block):
        found += _rank_block(guide, gradients, positions[start : start + block], banned, most)
    found.sort(key=lambda p: (-p.score, p.position, p.to_token))
    flops = guide.lm.shape.head(1)
    if gradients.config.takes_gradient:
        flops += row_flops(guide, gradients.config.objective)
    return _Ranking(found[:most], Cost(flops=flops * len(positions)))


def _rank_block(
    guide: Guide, gradients: Gradients, positions: list[int], banned: Tensor, most: int
) -> list[Proposal]:
    local = [i - gradients.start for i in positions]
    y = torch.tensor([gradients.response.tokens[i] for i in positions], device=guide.lm.device)
    logits = guide.lm.logits(gradients.lm.hidden[local])
    score = logits - logits.gather(-1, y[:, None])
    advantages = torch.zeros_like(score)
    sizes = torch.zeros(len(positions))
    config = gradients.config
    if config.ranked.beta is not None:
        state = gradients.guide_states[gradients.response.tokens]
        g = rows_at(guide, [(gradients, state, i) for i in positions], logits)
        advantages = g.gather(-1, y[:, None]) - g
        sizes = norms(g, banned, config.select)
        score = score + advantages / config.ranked.beta
    score = score.masked_fill(banned, float("-inf"))
    if config.ranked.nucleus < 1:
        sampling = Sampling(temperature=1.0, top_p=config.ranked.nucleus)
        score = score.masked_fill(filtered_probabilities(logits, sampling) == 0, float("-inf"))
    score.scatter_(-1, y[:, None], float("-inf"))
    best = score.flatten().topk(min(most, score.numel()))
    width = score.size(-1)
    likelihood = gradients.lm.likelihood
    found = []
    for value, flat in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        row, b = divmod(flat, width)
        if value == float("-inf"):
            break
        proposal = Proposal(
            position=positions[row],
            from_token=int(y[row]),
            to_token=b,
            confidence=float(likelihood.confidence[local[row]]),
            grad_norm=float(sizes[row]),
            advantage=float(advantages[row, b]),
            score=value,
        )
        found.append(proposal)
    return found
