"""Config keys that had another name in an earlier version.

There are no aliases: `pipeline.config.load` refuses an old key and names the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config_keys import first_unknown, leaves, tree

# Old dotted key, matched as a whole or as the trailing part of a key -> what to write now: the
# new key, and where its value differs, how.
RENAMED: dict[str, str] = {
    "engine": "runtime",
    "engine.checkpoint": "runtime.gradient_checkpointing",
    "ranked.eta": "ranked.beta = 1 / eta; null ranks without a guide",
    "ranked.stop": "ranked.min_score",
    "ranked.trust": "ranked.reward_weight",
    "dto.eta": "dto.beta = 1 / eta",
    "grid.eta": "grid.beta, each 1 / eta; a ranking without a guide is always tried",
    "grid.stop": "grid.min_score",
    "grid.trust": "grid.reward_weight",
    "target.turn": "target.direction_steps",
    "target.huber": "target.huber_delta",
    "data.doubt": "data.label_smoothing",
    "data.least_log_probability": "data.min_log_probability",
    "training.least_log_probability": "training.min_log_probability",
    "validation.measure": "validation.metric",
    "training.anew": "training.from_scratch",
    "measured": "eval_prompts",
    "workers.place_seconds": "workers.scheduling_timeout_s",
    "embedded": "language",
    "policy": "checkpoints",
    "continuous.step": "continuous.step_size",
    "continuous.plane_cells": "continuous.cells_2d",
    "continuous.ensemble": "continuous.rate_particles",
    "continuous.smallest": "continuous.smallest_group",
    "tokens.rl_rate": "tokens.rl_learning_rate",
    "tokens.batch": "tokens.rl_batch",
    "tokens.grpo_rate": "tokens.grpo_learning_rate",
    "tokens.chains": "tokens.gumbel_chains",
    "tokens.decoded": "tokens.decoding_runs",
    "tokens.product_runs": "tokens.library_runs",
    "language.reference": "language.reference_samples",
    "language.draws": "language.samples",
    "language.chains": "language.mh_chains",
    "language.steps": "language.mh_steps",
    "rloo.prompts": "rloo.prompts_per_step",
    "rloo.group": "rloo.group_size",
    "rloo.rate": "rloo.learning_rate",
}


def renamed(settings: Mapping[str, Any], config: type) -> dict[str, str]:
    """The keys of `settings` that a config class does not have, but had under another name: old
    dotted key -> what to write now."""
    new_names = {}
    known = tree(config)
    for key in leaves(settings):
        parts = key.split(".")
        unknown = first_unknown(parts, known)
        if unknown is None:
            continue
        entry = _entry(parts, unknown)
        if entry is not None:
            start, end = entry
            before = "".join(f"{part}." for part in parts[:start])
            new_names[".".join(parts[:end])] = before + RENAMED[".".join(parts[start:end])]
    return new_names


def _entry(parts: Sequence[str], unknown: int) -> tuple[int, int] | None:
    """Start and end of the longest entry of the table that covers the unknown part."""
    spans = [
        (start, end)
        for start in range(unknown + 1)
        for end in range(unknown + 1, len(parts) + 1)
        if ".".join(parts[start:end]) in RENAMED
    ]
    return max(spans, key=lambda span: span[1] - span[0], default=None)
