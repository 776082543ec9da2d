"""The card of a guide: what it was trained on, how, and what was measured. JSON beside the model.

Nothing here imports torch or ray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.errors import StoreError
from pipeline.references import redacted
from pipeline.store import manifest
from pipeline.store.checks import config_check
from pipeline.store.files import MALFORMED, Folder
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.folder import CARD

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
        "metrics": metrics,
        "judge_gradient": history["judge_gradient"],
        "skipped_steps": history["skipped"],
        "commit": manifest.commit(),
        "versions": manifest.versions(),
    }


def write_card(folder: Folder, card: Mapping[str, Any]) -> None:
    """Write the card into a run folder of guide training."""
    folder.write(CARD, json.dumps(redacted(card), indent=2, ensure_ascii=False).encode())


def read_card(folder: Folder) -> dict[str, Any]:
    """The card in a run folder of guide training. Raises StoreError where it is damaged or has
    another schema."""
    try:
        card: dict[str, Any] = dict(json.loads(folder.read(CARD)))
    except MALFORMED as error:
        raise _damaged(folder) from error
    schema = card.get("schema", "guide/1")  # the first version had no mark
    if schema != SCHEMA:
        raise StoreError(
            f"{folder.uri}/{CARD} has schema {schema} and this version reads {SCHEMA}; train the "
            "guide again in another run_dir"
        )
    whole = all(isinstance(card.get(key), kind) for key, kind in _READ.items())
    if not whole or "judge_gradient" not in card:
        raise _damaged(folder)
    return card


def _damaged(folder: Folder) -> StoreError:
    return StoreError(
        f"{folder.uri}/{CARD} is damaged: delete it, and the same command writes it again"
    )
