"""The card of a guide: what it was trained on, how, and what was measured. JSON beside the model.

Nothing here imports torch or ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.store import manifest
from pipeline.store.checks import config_check
from pipeline.store.files import Folder
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.folder import CARD
from pipeline.training.card import card_bytes, load_card
from pipeline.training.cost import COST, card_cost, without_cost

SCHEMA = "guide/2"
# What other code reads of a card, with its type; beside `judge_gradient`, which may be null.
_READ = {"kind": str, "metrics": dict, "data": dict, "skipped_steps": list, "chosen_step": int}


def make_card(config: TrainGuideConfig, history: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The card of the guide of checkpoint `step`; `history` is that of the run folder."""
    metrics = next(m for m in history["measurements"] if m["step"] == step)
    return {
        "schema": SCHEMA,
        "kind": config.kind,
        **history["description"],
        "config_hash": config_check.digest(config),
        "target": asdict(config.target),
        "optimise": asdict(config.optimise),
        "seed": config.seed,
        "workers": config.workers.count,
        "chosen_step": step,
        "chosen_by": config.validation.metric,
        "ranked": asdict(config.validation.nabla.ranked),
        "metrics": without_cost(metrics),
        COST: card_cost(history),
        "judge_gradient": history["judge_gradient"],
        "skipped_steps": history["skipped"],
        "commit": manifest.commit(),
        "versions": manifest.versions(),
    }


def write_card(folder: Folder, card: Mapping[str, Any]) -> None:
    """Write the card into a run folder of guide training."""
    folder.write(CARD, card_bytes(card))


def read_card(folder: Folder) -> dict[str, Any]:
    """The card in a run folder of guide training. Raises StoreError where it is damaged or has
    another schema."""
    # The first version had no mark.
    return load_card(
        folder, CARD, schema=SCHEMA, unmarked="guide/1", types=_READ, nullable=("judge_gradient",)
    )
