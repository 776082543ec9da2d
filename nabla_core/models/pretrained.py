"""Loading tokenizers and models with transformers: one place, one kind of error."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoTokenizer

from nabla_core.errors import ModelError
from nabla_core.models.location import check_location, unavailable


def load_tokenizer(path: str, revision: str | None) -> Any:
    """The tokenizer of a folder or hub id. Raises ModelError naming the path."""
    folder = Path(path)
    # transformers would take any path for a hub id, and complain about the hub.
    check_location(path)
    if folder.is_dir() and not any(folder.glob("tokenizer*")):
        raise ModelError(f"{path}: no tokenizer files in this folder")
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision)
    except (OSError, ValueError) as error:
        raise unavailable(path, "tokenizer", error) from error


def load_pretrained(
    auto: Any,
    path: str,
    *,
    purpose: str,
    initialised: Callable[[Any], Collection[str]] = lambda model: (),
    **options: Any,
) -> Any:
    """`auto.from_pretrained(path, **options)` in evaluation mode.

    `purpose` says in an error what the model is loaded for, such as "a guide". transformers
    initialises weights that a checkpoint lacks at random; `initialised(model)` names the modules
    for which that is right. Raises ModelError naming the path where the model cannot be loaded
    or lacks other weights.
    """
    try:
        model, report = auto.from_pretrained(path, output_loading_info=True, **options)
    # ImportError: an attention implementation that is not installed.
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot load it as {purpose}: {error}") from error
    allowed = initialised(model)
    missing = [key for key in report["missing_keys"] if key.rpartition(".")[0] not in allowed]
    if missing:
        raise ModelError(
            f"{path} is not {purpose}: its weights lack {', '.join(sorted(missing)[:3])}"
        )
    return model.eval()
