"""Where the shipped embedded models lie: Hugging Face folders, tokenizer and card in each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import PreTrainedModel

from nabla_core.embedded import tokenizer

Role = Literal["lm", "judge", "guide", "head"]
ROOT = Path(__file__).parent / "weights"


def folder(role: Role) -> Path:
    """The folder of one shipped model. Raises ValueError on an unknown role."""
    if role not in get_args(Role):
        raise ValueError(f"role {role!r} is none of {', '.join(get_args(Role))}")
    return ROOT / role


def located(path: str, role: Role) -> str:
    """Where to load a model from: "embedded" is the shipped one of that role, "embedded-head" the
    head whatever the role, all else itself."""
    shipped: dict[str, Role] = {"embedded": role, "embedded-head": "head"}
    return str(folder(shipped[path])) if path in shipped else path


def save(model: PreTrainedModel, path: Path, card: dict[str, Any]) -> None:
    """Write a model, the tokenizer and `card.json`, which comes last and marks it finished."""
    model.save_pretrained(path)
    tokenizer.build().save_pretrained(path)
    (path / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
