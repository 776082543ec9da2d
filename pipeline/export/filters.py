"""Filters that decide by the index alone: which traces are kept, and in which split a prompt is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.export.config import TRAINED, ExportConfig, Filters, Split
from pipeline.export.index import Array, Index

CUT = "cut by length"


def before_texts(index: Index, config: ExportConfig) -> None:
    """Drop what facts about single rows and about prompts decide. Raises InputError."""
    filters = config.filters
    _check_one_judge(index, filters)
    _by_pass_rate(index, filters)
    if config.format in TRAINED:
        index.drop(~index.stopped, CUT)
    if filters.verified:
        index.drop(index.correct != 1, "not verified")
    if config.format == "kto":
        index.drop(index.correct < 0, "not graded")
    if config.format == "preference":
        # A chain of draws may have changed without a gain, and have gained on its way.
        index.drop(~(index.gain > 0) & ~index.changed, "no gain over the first response")
    # A comparison with NaN is false: a row without a reward is dropped.
    if filters.min_reward is not None:
        index.drop(~(index.reward >= filters.min_reward), "reward below min_reward")
    if filters.min_gain is not None:
        index.drop(~(index.gain >= np.float32(filters.min_gain)), "gain below min_gain")
    if filters.changed:
        index.drop(~index.changed, "not changed")
    if filters.min_tokens is not None:
        index.drop(index.tokens < filters.min_tokens, "shorter than min_tokens")
    if filters.max_tokens is not None:
        index.drop(index.tokens > filters.max_tokens, "longer than max_tokens")
    if filters.best_of_samples is not None:
        _keep_best(index, filters.best_of_samples)


def after_texts(index: Index, filters: Filters) -> None:
    """Keep the fraction with the highest rewards of what is left."""
    if filters.top_fraction is None:
        return
    kept = index.kept
    count = int(np.ceil(filters.top_fraction * len(kept)))
    rewards = np.nan_to_num(index.reward[kept], nan=-np.inf)
    # Stable: of equal rewards those that come first are kept.
    best = kept[np.argsort(-rewards, kind="stable")[:count]]
    below = np.setdiff1d(kept, best)
    index.drop(below, "reward below the top fraction")
    index.drop(np.isnan(index.reward), "no reward")


def _by_pass_rate(index: Index, filters: Filters) -> None:
    """Drop by the pass rates of prompts; before other filters, since a rate is of all responses."""
    if filters.min_pass_rate is None and filters.max_pass_rate is None:
        return
    rates = _pass_rates(index)
    if filters.min_pass_rate is not None:
        index.drop(~(rates >= filters.min_pass_rate), "pass rate below min_pass_rate")
    if filters.max_pass_rate is not None:
        index.drop(~(rates <= filters.max_pass_rate), "pass rate above max_pass_rate")


def _keep_best(index: Index, count: int) -> None:
    kept = index.kept
    rewards = np.nan_to_num(index.reward[kept], nan=-np.inf)
    order = np.lexsort((kept, -rewards, index.prompt[kept]))
    prompts = index.prompt[kept][order]
    starts = np.flatnonzero(np.r_[True, prompts[1:] != prompts[:-1]]) if len(order) else order
    sizes = np.diff(np.r_[starts, len(order)])
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    index.drop(kept[order[rank >= count]], "not among the best samples of its prompt")


def _pass_rates(index: Index) -> Array:
    """Of each row the fraction of right responses to its prompt; NaN where none was graded."""
    counted = (index.correct >= 0) & (index.reason == 0)
    _, prompt = np.unique(index.prompt, return_inverse=True)
    graded = np.bincount(prompt, weights=counted)
    right = np.bincount(prompt, weights=counted & (index.correct == 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rates: Array = (right / graded)[prompt]
    return rates


def _check_one_judge(index: Index, filters: Filters) -> None:
    """Raises InputError where rewards of different judges would be compared."""
    compared = {
        "min_reward": filters.min_reward is not None,
        "best_of_samples": filters.best_of_samples is not None,
        "top_fraction": filters.top_fraction is not None,
    }
    names = [f"filters.{name}" for name, used in compared.items() if used]
    if names and len(index.judges) > 1:
        raise InputError(
            f"{', '.join(names)}: rewards of different judges cannot be compared: "
            f"{', '.join(sorted(index.judges))}; export their run folders one by one"
        )


def held_out(index: Index, split: Split) -> npt.NDArray[np.bool_]:
    """Of each row whether its prompt is held out: by a hash of the prompt and the seed, so that a
    prompt is in the same split whatever else is exported."""
    # splitmix64 of the prompt's digest: well mixed, and the same on every machine.
    with np.errstate(over="ignore"):
        z = index.prompt + np.uint64((split.seed * 0x9E3779B97F4A7C15 + 1) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    chosen: npt.NDArray[np.bool_] = z.astype(np.float64) / 2**64 < split.held_out
    return chosen
