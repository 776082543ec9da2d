"""Checks on a few tokens that the parts of a loaded model are the whole model.

transformers' own forward pass is the truth: a model whose parts give something else is refused,
since its gradients would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nabla_core.errors import HeadError, ModelError
from nabla_core.models.forward import Reading, read
from nabla_core.models.logit_map import LogitMap
from nabla_core.models.pooling import pool_index


@contextmanager
def named_refusal(model: Any, source: str) -> Iterator[None]:
    """An error of a model's own code in the block becomes a HeadError naming the model: it cannot
    be run in the way that is tried there."""
    try:
        yield
    # No failure of the model: the machine is too small for it.
    except (ModelError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise HeadError(
            f"{source}: {type(model).__name__} cannot be run from input embeddings with a cache "
            f"of keys and values ({type(error).__name__}: {error})"
        ) from error


def probe_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Up to eight ids that are not the pad token."""
    # A classifier would take the pad token for the end of the text.
    size = min(len(tokenizer), model.get_input_embeddings().num_embeddings)
    pad = model.config.get_text_config().pad_token_id
    return tuple([i for i in range(min(size, 9)) if i != pad][:8])


def check_equal(
    whole: Tensor, parts: Tensor, name: str, mismatch: str, *, loose: bool = False
) -> None:
    """Raises HeadError where they differ. `loose`: they come from batches of different shapes,
    whose sums are rounded differently."""
    if not whole.isfinite().all():
        raise ModelError(f"{name}: its outputs are not finite; are its weights damaged?")
    # bf16 has 8 bits of mantissa, and the two ways round at different places.
    exact, rounded = (1e-4, 1e-3) if whole.dtype == torch.float32 else (2e-2, 0.1)
    tolerance = rounded if loose else exact
    if not torch.allclose(whole.float(), parts.float(), rtol=tolerance, atol=tolerance):
        worst = (whole.float() - parts.float()).abs().max().item()
        raise HeadError(f"{name}: {mismatch} (off by {worst:.3g}); gradients would be wrong")


@torch.no_grad()
def logit_map_of(model: Any, ids: Sequence[int]) -> LogitMap:
    """What an LM does to the outputs of its output layer."""
    tokens = torch.tensor([ids], device=model.device)
    outputs = model.get_output_embeddings()(model.base_model(input_ids=tokens).last_hidden_state)
    return LogitMap.of(model.config, outputs, model(input_ids=tokens).logits)


@torch.no_grad()
def check_logits(model: Any, lm: Any, ids: tuple[int, ...]) -> None:
    """Raises HeadError where an LM's logits are not those of its parts."""
    whole = model(input_ids=torch.tensor([ids], device=lm.device)).logits
    hidden = read(lm, [Reading(ids)], gradient=False, return_cache=False).hidden
    parts = lm.logit_map(lm.head(hidden).float()).to(whole.dtype)
    check_equal(whole, parts, lm.source, "logits are not head(body(embed(ids)))")


@torch.no_grad()
def check_rewards(model: Any, rm: Any, ids: tuple[int, ...]) -> None:
    """Raises HeadError where a classifier's rewards are not `score` of what its body makes of the
    token that `models.pooling` tells: alone and in a padded batch, of texts that end in a word, in
    the end-of-text token, and in the pad token."""
    mismatch = "its reward is not score(body(embed(ids))) at the last token that is not pad"
    ends = [i for i in (rm.tokenizer.eos_token_id, rm.pad) if i is not None and i < len(rm.table)]
    texts = [ids, *((*ids[: 2 + n], i) for n, i in enumerate(ends)), *((i, *ids, i) for i in ends)]
    alone = torch.cat([model(input_ids=_tensor(rm, [t])).logits for t in texts])
    parts = torch.cat([_rewards(rm, [t]) for t in texts])
    check_equal(alone, parts, rm.source, mismatch)
    check_equal(alone, _rewards(rm, texts), rm.source, mismatch, loose=True)
    if rm.pad is not None:  # without one, transformers reads no batches
        width = max(map(len, texts))
        rows = [(*t, *[rm.pad] * (width - len(t))) for t in texts]
        mask = _tensor(rm, [(*[1] * len(t), *[0] * (width - len(t))) for t in texts])
        batch = model(input_ids=_tensor(rm, rows), attention_mask=mask).logits
        check_equal(batch, _rewards(rm, texts), rm.source, mismatch, loose=True)


def _rewards(rm: Any, texts: Sequence[tuple[int, ...]]) -> Tensor:
    hidden = read(rm, [Reading(t) for t in texts], gradient=False, return_cache=False).hidden
    ends = [hidden[row, pool_index(t, rm.pad)] for row, t in enumerate(texts)]
    return rm.reward(torch.stack(ends))[:, None]


def _tensor(rm: Any, rows: Sequence[tuple[int, ...]]) -> Tensor:
    return torch.tensor(rows, device=rm.device)


def check_gradient(model: Any, ids: tuple[int, ...]) -> None:
    """Run a backward pass to the input embeddings; what it raises is the model's."""
    with torch.enable_grad():
        forward = read(model, [Reading(ids)], gradient=True, return_cache=False)
        torch.autograd.grad(forward.hidden.sum(), forward.embeddings)


@torch.no_grad()
def check_prefix_caches(model: Any, ids: tuple[int, ...]) -> None:
    """Raises HeadError where a batch of rows that continue from prefixes of different lengths
    gives other hidden states than each row alone."""
    tokens = (ids * 8)[:8]
    other = tokens[::-1]
    whole = read(model, [Reading(tokens)], gradient=False, return_cache=True)
    alone = read(model, [Reading(other[:5])], gradient=False, return_cache=False).hidden[0]
    cached = (6, 2)
    readings = [*(Reading(tokens, whole.prefix_cache(0, n)) for n in cached), Reading(other[:5])]
    part = read(model, readings, gradient=False, return_cache=True).hidden
    pairs = [(whole.hidden[0, n:], part[row, : len(tokens) - n]) for row, n in enumerate(cached)]
    for expected, found in [*pairs, (alone, part[2, :5])]:
        # Of the size of the whole: single entries differ by rounding, and in bf16 by more.
        worst = float((expected.float() - found.float()).norm() / expected.float().norm())
        if not worst <= (1e-3 if expected.dtype == torch.float32 else 0.2):
            raise HeadError(
                f"{model.source}: {type(model.body).__name__} gives other hidden states behind a "
                f"cache of keys and values, or in a batch, than alone (relative error {worst:.3g})"
            )
