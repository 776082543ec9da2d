"""Ranked mirror proposals: every replacement at every position, best score first.

The minimiser of the linearised loss plus beta * KL(q || p_i) at position i is
q ~ p_i exp(-g_i / beta); it prefers b to y_i exactly when

    s_i(b) = (g_i[y_i] - g_i[b]) / beta + log p(b | y_<i) - log p(y_i | y_<i) > 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nabla_core.config import NablaConfig, Sampling
from nabla_core.guides.base import Gradients, Guide
from nabla_core.models.forward import BLOCK
from nabla_core.proposals.positions import banned_ids, norms, rows_at
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
    # By identity: of several requests of one sweep only the first ranks.
    new = {id(r.gradients): r.gradients for r in requests if r.gradients.plan is None}
    by_config: dict[NablaConfig, list[Gradients]] = {}
    for gradients in new.values():
        by_config.setdefault(gradients.config, []).append(gradients)
    for config, unranked in by_config.items():
        for gradients, ranking in zip(unranked, _rank(guide, config, unranked), strict=True):
            gradients.plan = ranking
    results: list[Result] = []
    for request in requests:
        made: _Ranking = request.gradients.plan
        untried = [p for p in made.proposals if (p.position, p.to_token) not in request.tried]
        results.append(Reply(untried[: request.count], made.cost))
        made.cost = Cost()
    return results


def _rank(guide: Guide, config: NablaConfig, batch: Sequence[Gradients]) -> list[_Ranking]:
    """The rankings of some responses, long enough for the whole search."""
    # A rollout tries one pair, and an acceptance bars one more (the token just replaced).
    length = 2 * config.max_rollouts
    banned = banned_ids(guide)
    proposals: list[list[Proposal]] = [[] for _ in batch]
    # Scores are formed for a block of positions at a time, of several responses if they are short:
    # [T, V] in fp32 would be 600 MB for 1,000 tokens and a vocabulary of 150,000. Only the best
    # pairs of a block are kept.
    for block in _blocks(batch, max(1, BLOCK // guide.lm.head.out_features)):
        for part, found in zip(block, _rank_block(guide, block, banned, length), strict=True):
            proposals[part.response] += found
    flops = guide.lm.shape.head(1)
    if config.uses_guide:
        flops += guide.row_flops(config.objective)
    rankings = []
    for gradients, found in zip(batch, proposals, strict=True):
        # Ties are broken by position and id, so that the order never depends on the blocks.
        found.sort(key=lambda p: (-p.score, p.position, p.to_token))
        positions = len(gradients.response.tokens) - gradients.start
        rankings.append(_Ranking(found[:length], Cost(flops=flops * positions)))
    return rankings


@dataclass(frozen=True, slots=True)
class _Part:
    """Some positions of one response: `response` is its number in the batch, `start` and `end` are
    counted from the start of the sweep."""

    response: int
    gradients: Gradients
    start: int
    end: int

    @property
    def tokens(self) -> tuple[int, ...]:
        first = self.gradients.start
        return self.gradients.response.tokens[first + self.start : first + self.end]


def _blocks(batch: Sequence[Gradients], size: int) -> Iterator[list[_Part]]:
    """Parts of responses, in blocks of at most `size` positions."""
    block: list[_Part] = []
    room = size
    for number, gradients in enumerate(batch):
        start, count = 0, len(gradients.response.tokens) - gradients.start
        while start < count:
            end = min(count, start + room)
            block.append(_Part(number, gradients, start, end))
            room -= end - start
            start = end
            if room == 0:
                yield block
                block, room = [], size
    if block:
        yield block


@dataclass(eq=False)
class _Scores:
    """Of n positions and all tokens: `score` (nats; -inf: not to be proposed) and `advantage`
    `[n, V]`, `grad_norm` `[n]`."""

    score: Tensor
    advantage: Tensor
    grad_norm: Tensor


def _rank_block(
    guide: Guide, block: Sequence[_Part], banned: Tensor, count: int
) -> list[list[Proposal]]:
    """The `count` best pairs of each part, with a score above `min_score`."""
    scores = _scores(guide, block, banned)
    sizes = [part.end - part.start for part in block]
    # First the best of each position, then those of each part: no [n, V] is copied.
    of_position = scores.score.topk(min(count, scores.score.size(-1)))
    # Each part is a row; shorter ones are filled up with pairs that are not proposed.
    of_part = pad_sequence(
        list(of_position.values.split(sizes)), batch_first=True, padding_value=float("-inf")
    )
    best = of_part.flatten(1).topk(min(count, of_part[0].numel()))
    offsets = torch.tensor([0, *accumulate(sizes[:-1])], device=best.indices.device)[:, None]
    # Rows of `scores`. What fills a part up may point behind it, and is left out below.
    row = (best.indices // of_part.size(-1) + offsets).clamp(max=len(scores.grad_norm) - 1)
    to_token = of_position.indices[row, best.indices % of_part.size(-1)]
    confidence = torch.cat([p.gradients.lm.likelihood.confidence[p.start : p.end] for p in block])
    columns = zip(
        best.values.tolist(),
        row.tolist(),
        to_token.tolist(),
        confidence[row].tolist(),
        scores.grad_norm[row].tolist(),
        scores.advantage[row, to_token].tolist(),
        offsets.flatten().tolist(),
        block,
        strict=True,
    )
    return [_proposals(part, offset, *found) for *found, offset, part in columns]


def _proposals(
    part: _Part,
    offset: int,
    scores: list[float],
    rows: list[int],
    tokens: list[int],
    confidences: list[float],
    norms: list[float],
    advantages: list[float],
) -> list[Proposal]:
    """The pairs of one part, best first, up to the first whose score is not above `min_score`."""
    least = part.gradients.config.ranked.min_score
    first = part.gradients.start + part.start - offset
    columns = zip(scores, rows, tokens, confidences, norms, advantages, strict=True)
    return [
        Proposal(
            position=first + row,
            from_token=part.gradients.response.tokens[first + row],
            to_token=to_token,
            confidence=confidence,
            grad_norm=norm,
            advantage=advantage,
            score=score,
        )
        # Sorted: none that follows is above it either.
        for score, row, to_token, confidence, norm, advantage in takewhile(
            lambda column: column[0] > least and column[0] > float("-inf"), columns
        )
    ]


def _scores(guide: Guide, block: Sequence[_Part], banned: Tensor) -> _Scores:
    """The score of the module's first lines, for every token at these positions."""
    config = block[0].gradients.config
    y = torch.tensor([token for part in block for token in part.tokens], device=guide.lm.device)
    logits = guide.lm.logits(
        torch.cat([part.gradients.lm.hidden[part.start : part.end] for part in block])
    )
    # log p(b) - log p(y_i): the normaliser of the softmax cancels.
    score = logits - logits.gather(-1, y[:, None])
    advantage = torch.zeros_like(score)
    grad_norm = torch.zeros(len(y), device=score.device)
    if config.ranked.beta is not None:
        chosen = []
        for part in block:
            gradients = part.gradients
            state = gradients.guide_states[gradients.response.tokens]
            places = range(gradients.start + part.start, gradients.start + part.end)
            chosen += [(gradients, state, i) for i in places]
        g = rows_at(guide, chosen, logits)
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
