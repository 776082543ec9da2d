"""The folders of the shipped models: Hugging Face models, each with tokenizer and card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nabla_core.embedded import smollm2

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Role = Literal["lm", "judge", "guide", "head"]
ROOT = Path(__file__).parent / "weights"


def folder(role: Role) -> Path:
    """The folder of one shipped model. Raises ValueError on an unknown role."""
    if role not in get_args(Role):
        raise ValueError(f"role {role!r} is none of {', '.join(get_args(Role))}")
    return ROOT / role


def model_location(path: str, role: Role) -> str:
    """The folder or hub id behind a path of a config: "embedded" is the shipped model of that
    role, "embedded-head" the shipped head in any role, "smollm2" a folder in the user's cache, made
    here if need be; in all other paths `~` is expanded. Raises ModelError where it cannot be made.
    """
    if path == smollm2.NAME:
        return str(smollm2.smollm2_folder())
    shipped: dict[str, Role] = {"embedded": role, "embedded-head": "head"}
    return str(folder(shipped[path])) if path in shipped else os.path.expanduser(path)


def save(
    model: PreTrainedModel, path: Path, card: dict[str, Any], *, chat_template: str | None = None
) -> None:
    """Write a model, the tokenizer, and then `card.json`: a folder with a card is complete."""
    # It imports transformers, which takes seconds; drivers only locate the models.
    from nabla_core.embedded import tokenizer  # noqa: PLC0415

    model.save_pretrained(path)
    built = tokenizer.build()
    built.chat_template = chat_template
    built.save_pretrained(path)
    (path / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
