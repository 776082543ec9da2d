"""The card of a student: what it was trained on, how, and what was measured.

`card.json` is for programs, `README.md` for people and the Hugging Face hub. Nothing here imports
torch or ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from pipeline.distill.config import DistillConfig
from pipeline.distill.folder import CARD, README
from pipeline.references import redacted
from pipeline.store import manifest
from pipeline.store.checks import config_check
from pipeline.store.files import Folder
from pipeline.training.card import card_bytes, load_card
from pipeline.training.cost import COST, card_cost, without_cost

SCHEMA = "student/1"
# What the command reads of a card, with its type.
_READ = {"metrics": dict, "baseline": dict, "data": dict, "chosen_by": str}
FIGURES = ("accuracy", "reward", "stopped", "tokens", "held_out_loss", "loss")


def make_card(config: DistillConfig, history: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The card of the student of checkpoint `step`; `history` is that of the run folder."""
    metrics = next(m for m in history["measurements"] if m["step"] == step)
    prompts = config.validation.prompts
    return {
        "schema": SCHEMA,
        **history["description"],
        "config_hash": config_check.digest(config),
        "optimise": asdict(config.optimise),
        "dpo": asdict(config.dpo) if "dpo" in history["description"]["loss"] else None,
        "seed": config.seed,
        "workers": config.workers.count,
        "chosen_step": step,
        "chosen_by": config.validation.metric,
        "validation": {"split": prompts.split, "limit": prompts.limit, "skip": prompts.skip},
        "metrics": without_cost(metrics),
        COST: card_cost(history),
        "baseline": history["baseline"],
        "commit": manifest.commit(),
        "versions": manifest.versions("trl", "peft"),
    }


def write_card(folder: Folder, card: Mapping[str, Any]) -> None:
    """Write both files; `card.json` last: a folder with it holds a complete student."""
    folder.write(README, redacted(readme(card)).encode())
    folder.write(CARD, card_bytes(card))


def read_card(folder: Folder) -> dict[str, Any]:
    """The card in a run folder. Raises StoreError where it is damaged or has another schema."""
    return load_card(folder, CARD, schema=SCHEMA, types=_READ)


def readme(card: Mapping[str, Any]) -> str:
    """The card as Markdown with the metadata of the hub."""
    metadata = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": card["base"]["name"],
        "tags": ["nabla-pipeline", "distillation", "synthetic"],
    }
    data = card["data"]
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False).rstrip(),
        "---",
        f"# A student of {card['base']['name']}",
        "",
        f"Base: {card['base']['name']} `{card['base']['revision']}`. Loss: {card['loss']}, "
        f"{card['weights']['method']} weights, {data['rows']:,} rows, seed {card['seed']}. "
        f"Step {card['chosen_step']} was chosen by {card['chosen_by']} on validation prompts, "
        f"{data['validation_overlap']} of which are in the training data too.",
        "",
        "| greedy, without a search | base | student |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {_shown(card['baseline'].get(name))} | {_shown(card['metrics'][name])} |"
            for name in FIGURES
        ),
        "",
        "| data | format | digest | rows kept | dropped |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {e['name']} | {e['format']} | `{e['digest']}` | {_shown(e['kept'])} | "
            f"{_shown(e['dropped'])} |"
            for e in data["exports"]
        ),
        "",
        f"Left out in training: {_shown(data['left_out']) or 'none'}. All settings, filters and "
        "versions are in `card.json`.",
        "",
    ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {count}" for key, count in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)
