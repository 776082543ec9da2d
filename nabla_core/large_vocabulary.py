"""Draws from large vocabularies, for a few passes over the logits in float32.

The law is that of `sampling.filtered_probabilities`, which is float64 over the whole vocabulary.
Here only what decides is float64: a shortlist of the most probable tokens, or the block of ids that
the draw falls into. What float32 sums leave uncertain is known (`UNSURE`), so a draw is either
that of the law or it is left open, for the caller to make in full.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from nabla_core.config import Sampling

# Ids are handled in blocks of this many, one behind the other.
WIDTH = 64
# Below this a pass in float64 costs less than the steps of a shortlist.
LARGE = 4096
# Blocks on a shortlist. A row whose set of kept tokens is not covered tries the next number.
SHORTLISTS = (16, 64, 256)
# A draw that a float32 sum could change by this fraction is left open. The exponent of a term errs
# by at most 3 rounding errors of its size, which over a distribution is at most log(V) < 13 on
# average; exp and the sum of a block add fewer than 10 more, of 6e-8 each.
UNSURE = 4e-6
OPEN = -1
# Bins of probabilities in (0, 1]: sign, exponent and the first 6 bits of the fraction.
_BIN_BITS = 17
_BINS = (0x3F800000 >> _BIN_BITS) + 2
# Elements of float32 that are worked on at a time: half a MiB stays in the cache of a CPU core.
_CPU_CHUNK = 1 << 17
_GPU_CHUNK = 1 << 26


def blocks_of(logits: Tensor) -> Tensor:
    """logits `[B, V]` as `[B, blocks, WIDTH]`; the last block is filled up with -inf."""
    missing = -logits.size(-1) % WIDTH
    if missing:
        logits = pad(logits, (0, missing), value=float("-inf"))
    return logits.reshape(logits.size(0), -1, WIDTH)


def first_argmax(blocks: Tensor, largest: Tensor) -> Tensor:
    """The first id of the largest logit of each row, int64 `[B]`. largest `[B, blocks]` are the
    maxima of `blocks_of`."""
    # Several times as fast as `Tensor.argmax` on a CPU: the maxima of blocks are vectorised.
    block = largest.argmax(-1)
    rows = torch.arange(len(blocks), device=blocks.device)
    return block * WIDTH + blocks[rows, block].argmax(-1)


def draw_open(blocks: Tensor, largest: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """One token a row like `sampling.draw` at a temperature above 0, or `OPEN` where the float32
    sums do not decide. int64 `[B]`. largest `[B, blocks]` are the maxima of `blocks_of`."""
    if not sampling.top_k and sampling.top_p == 1:
        return _by_block(blocks, largest.amax(-1), sampling, uniforms)
    sums = None
    if not sampling.top_k:
        sums = _block_sums(blocks, largest.amax(-1), sampling.temperature)
    chosen = torch.full_like(uniforms, OPEN, dtype=torch.int64)
    for count in SHORTLISTS:
        # The maximum of the best block that is left out must exist.
        if count >= blocks.size(1) or sampling.top_k >= count:
            continue
        still = chosen == OPEN
        if not still.any():
            break
        best = largest.topk(count + 1, -1)
        if sums is not None:
            # Not where the listed blocks hold less than the mass of top-p.
            mass = sums.gather(-1, best.indices[:, :count]).sum(-1)
            still &= mass > sampling.top_p * sums.sum(-1)
        rows = still.nonzero().squeeze(-1)
        if not len(rows):
            continue
        chosen[rows] = _from_shortlist(
            blocks[rows[:, None], best.indices[rows, :count]],
            (best.values[rows], best.indices[rows]),
            sampling,
            uniforms[rows],
            None if sums is None else sums[rows].sum(-1),
        )
    return chosen


def _block_sums(blocks: Tensor, largest: Tensor, temperature: float) -> Tensor:
    """Sums of exp((logit - largest) / temperature) over each block, float64 `[B, blocks]`."""
    rows = max(1, (_GPU_CHUNK if blocks.is_cuda else _CPU_CHUNK) // blocks[0].numel())
    buffer = torch.empty_like(blocks[:rows])
    parts = []
    for part, top in zip(blocks.split(rows), largest.split(rows), strict=True):
        terms = torch.sub(part, top[:, None, None], out=buffer[: len(part)])
        parts.append(terms.mul_(1 / temperature).exp_().sum(-1))
    return torch.cat(parts).double()


def _by_block(blocks: Tensor, largest: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """The inverse CDF of the whole softmax: first the block, then the id within it."""
    ends = _block_sums(blocks, largest, sampling.temperature).cumsum(-1)
    total = ends[:, -1]
    target = uniforms * total
    block = torch.searchsorted(ends, target[:, None], right=True).squeeze(-1)
    block = block.clamp_(max=blocks.size(1) - 1)
    rows = torch.arange(len(blocks), device=blocks.device)
    before = torch.where(block > 0, ends[rows, (block - 1).clamp(min=0)], 0.0)
    exponents = (blocks[rows, block].double() - largest[:, None]) / sampling.temperature
    edges = before[:, None] + exponents.exp().cumsum(-1)
    inside = (edges <= target[:, None]).sum(-1).clamp(max=WIDTH - 1)
    # Sure where both edges of the token are further from the target than the sums may err.
    end = edges[rows, inside]
    start = torch.where(inside > 0, edges[rows, (inside - 1).clamp(min=0)], before)
    error = UNSURE * total
    sure = (target - start > error) & (end - target > error)
    return torch.where(sure, block * WIDTH + inside, OPEN)


def _from_shortlist(
    listed: Tensor,
    best: tuple[Tensor, Tensor],
    sampling: Sampling,
    uniforms: Tensor,
    sums: Tensor | None,
) -> Tensor:
    """The draw from `listed` `[B, n, WIDTH]`, the blocks with the largest maxima, where they hold
    every token that top-k and top-p keep; else `OPEN`.

    `best`: the maxima `[B, n + 1]` of these blocks and of the next one, and the numbers of the
    blocks. `sums` `[B]` are those of the whole softmax (relative to the largest logit), or None
    with top-k, which sums over the kept tokens alone.
    """
    maxima, numbers = best
    top = listed.flatten(1).topk(2 * listed.size(1), -1)
    # Of tokens at or below this, others may be missing: outside the blocks, or behind the top.
    missing = torch.maximum(maxima[:, -1:], top.values[:, -1:])
    weights = ((top.values.double() - maxima[:, :1]) / sampling.temperature).exp_()
    weights = weights.masked_fill_(top.values <= missing, 0.0)
    sure = torch.ones(len(listed), dtype=torch.bool, device=listed.device)
    error = UNSURE
    if sampling.top_k:
        kth = weights[:, sampling.top_k - 1 : sampling.top_k]
        sure &= kth.squeeze(-1) > 0
        weights = weights.masked_fill(weights < kth, 0.0)
        # These sums are float64.
        sums, error = weights.sum(-1), 0.0
    assert sums is not None
    if sampling.top_p < 1:
        ends = weights.cumsum(-1)
        before = ends - weights
        goal = sampling.top_p * sums
        margin = error * sums
        last = (before < goal[:, None]).sum(-1, keepdim=True).clamp(min=1) - 1
        # The kept tokens are all known, and no edge is so near to the mass that it may be beyond.
        sure &= ends[:, -1] >= goal + margin
        sure &= (before - goal[:, None]).abs().amin(-1) >= margin
        weights = weights.masked_fill(weights < weights.gather(-1, last), 0.0)
    ids = numbers.gather(-1, top.indices // WIDTH) * WIDTH + top.indices % WIDTH
    ids, order = ids.sort(-1)
    chosen = inverse_cdf(weights.gather(-1, order), uniforms)
    return torch.where(sure, ids.gather(-1, chosen[:, None]).squeeze(-1), OPEN)


def inverse_cdf(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The first column of weights float64 `[B, n]` whose cumulative sum exceeds the uniform's share
    of the total; int64 `[B]`."""
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    target = uniforms[:, None] * total
    chosen = torch.searchsorted(cumulative, target, right=True)
    # Where rounding puts the target at the very end: the last column that adds to the sum.
    return torch.minimum(chosen, torch.searchsorted(cumulative, total)).squeeze(-1)


def nucleus_threshold(probabilities: Tensor, mass: float) -> Tensor:
    """The smallest probability that top-p keeps, `[B, 1]`: that of the last token, in descending
    order, before which there is less than `mass`. probabilities: float64 `[B, V]`."""
    above = torch.zeros_like(probabilities[:, :1])
    if probabilities.size(-1) < LARGE:
        return _threshold(probabilities, above, mass)
    # Only the tokens near the threshold are sorted. Sums over bins of probabilities, by the leading
    # bits of their float32 value, say which these are.
    bins = probabilities.float().view(torch.int32) >> _BIN_BITS
    rows = torch.arange(len(bins), device=bins.device, dtype=torch.int32)
    keys = (bins + rows[:, None] * _BINS).flatten()
    sums = torch.bincount(keys, probabilities.flatten(), len(bins) * _BINS).view(len(bins), _BINS)
    before = sums.flip(-1).cumsum(-1).flip(-1) - sums
    # The lowest bin with tokens that has less than the mass above it.
    lowest = ((before < mass) & (sums > 0)).to(torch.int8).argmax(-1, keepdim=True)
    row, token = (bins == lowest).nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=len(bins))
    column = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    members = probabilities.new_zeros(len(bins), int(counts.max()))
    members[row, column] = probabilities[row, token]
    return _threshold(members, before.gather(-1, lowest), mass)


def _threshold(members: Tensor, above: Tensor, mass: float) -> Tensor:
    """The last of some probabilities `[B, n]` before which there is less than `mass`, `above`
    `[B, 1]` of it above all of them."""
    ordered = members.sort(-1, descending=True).values
    before = above + (ordered.cumsum(-1) - ordered)
    kept = (before < mass).sum(-1, keepdim=True)
    return ordered.gather(-1, kept - 1)
