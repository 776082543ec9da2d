"""The files of a model folder: are they what their names say?

transformers raises what its parsers raise for a damaged file, without its name, or ignores the file
(`generation_config.json`, which names the stop tokens).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nabla_core.errors import ModelError

# transformers reads the config of the model for a tokenizer too.
_TOKENIZER = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.json"),
)
_MODEL = ("config.json", "generation_config.json", "adapter_config.json")
_INDEX = "model.safetensors.index.json"


def check_tokenizer_files(path: str) -> None:
    """Raises ModelError naming the file that is damaged; a hub id passes."""
    folder = Path(path)
    for name in _TOKENIZER:
        described = _json_object(folder / name)
        if name == "tokenizer.json" and described is not None and "model" not in described:
            raise ModelError(f"{folder / name}: this is no tokenizer: it has no entry 'model'")


def check_model_files(path: str) -> None:
    """Raises ModelError naming the file that is damaged or lacking; a hub id passes."""
    folder = Path(path)
    for name in _MODEL:
        _json_object(folder / name)
    shards = (_json_object(folder / _INDEX) or {}).get("weight_map", {})
    if not isinstance(shards, dict):
        raise ModelError(f"{folder / _INDEX}: its weight_map is no JSON object")
    for shard in sorted(set(shards.values())):
        if not (folder / shard).exists():
            raise ModelError(f"{folder / _INDEX} names {shard}, which is not in the folder")
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):  # reads the header, and compares it with the file's size
                pass
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file}: cannot be read, is it cut or damaged? ({error})") from error


def adapter_base(path: str) -> str | None:
    """The model that an adapter (peft) in a folder is for; None where the folder holds none."""
    described = _json_object(Path(path) / "adapter_config.json")
    return None if described is None else str(described.get("base_model_name_or_path"))


def _json_object(file: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None without the file. Raises ModelError naming the file."""
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # of JSON and of UTF-8
        raise ModelError(f"{file}: this is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file}: a JSON object was expected, found {type(found).__name__}")
    return found
