"""The card of a judge: what it was trained on, how, and what was measured.

`card.json` and `report.json` are for programs, `README.md` for people and the Hugging Face hub.
Nothing here imports torch or ray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from pipeline.references import redacted
from pipeline.store import manifest
from pipeline.store.checks import config_check
from pipeline.store.files import Folder
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.folder import CARD, README, REPORT
from pipeline.train_judge.report import markdown, report
from pipeline.training.card import card_bytes, load_card
from pipeline.training.cost import COST, card_cost, without_cost

SCHEMA = "judge/1"
# What the command reads of a card, with its type.
_READ = {"metrics": dict, "baseline": dict, "data": dict, "chosen_by": str}


def make_card(config: TrainJudgeConfig, history: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The card of the judge of checkpoint `step`; `history` is that of the run folder."""
    metrics = next(m for m in history["measurements"] if m["step"] == step)
    prompts = config.validation.prompts
    return {
        "schema": SCHEMA,
        **history["description"],
        "config_hash": config_check.digest(config),
        "goal": asdict(config.goal),
        "hard": asdict(config.data.hard),
        "optimise": asdict(config.optimise),
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
    """Write all files; `card.json` last: a folder with it holds a complete judge."""
    figures = report(card["metrics"]["report"], card["baseline"].get("report"))
    folder.write(REPORT, json.dumps(figures, indent=2).encode())
    folder.write(README, redacted(readme(card)).encode())
    folder.write(CARD, card_bytes(card))


def read_card(folder: Folder) -> dict[str, Any]:
    """The card in a run folder. Raises StoreError where it is damaged or has another schema."""
    return load_card(folder, CARD, schema=SCHEMA, types=_READ)


def readme(card: Mapping[str, Any]) -> str:
    """The card as Markdown with the metadata of the hub."""
    metadata = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": card["start"]["name"],
        "tags": ["nabla-pipeline", "reward-model"],
    }
    data, goal = card["data"], card["goal"]
    part = data["trained_on"]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(metadata, sort_keys=False).rstrip(),
            "---",
            f"# A judge from {card['start']['name']}",
            "",
            f"Start: {card['start']['name']} `{card['start']['revision']}`. {_last(card)}"
            f"Labels: {goal['answers']}; loss: {goal['loss']}; {card['weights']['method']} "
            f"weights; seed {card['seed']}. Trained on {part['answers']:,} answers, "
            f"{part['right']:,} of them right and {part['hard']:,} hard negatives. The scale of "
            "rewards is "
            f"{goal['scale']} (factor {card['metrics']['scale']:.3f}). Step {card['chosen_step']} "
            f"was chosen by {card['chosen_by']}.",
            "",
            markdown(card["metrics"]["report"], card["baseline"].get("report")),
            "",
            "All figures are in `report.json`, settings, data and versions in `card.json`.",
            "",
        ]
    )


def _last(card: Mapping[str, Any]) -> str:
    last = card["last_judge"]
    return f"Last judge: {last['name']} `{last['revision']}`. " if last else ""
