"""Folders of `nabla export` as the data of a student. Imports neither torch nor ray."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from pipeline.distill.config import TrainingRows
from pipeline.errors import InputError
from pipeline.store.files import Folder, checksum_of

FACTS, SUCCESS = "export.json", "_SUCCESS"

# TRL's SFTTrainer takes responses, its DPOTrainer pairs.
Kind = Literal["responses", "pairs"]
KINDS: Mapping[str, Kind] = {
    "sft": "responses",
    "tokens": "responses",
    "preference": "pairs",
    "reward": "pairs",
}


@dataclass(frozen=True, kw_only=True)
class Export:
    """A complete folder of `nabla export`.

    `facts` are those of its `export.json`, `digest` the checksum of that file, which holds the
    checksums of all others. `tokenizer` is the fingerprint of the tokenizer that made the rows,
    None where rows are messages.
    """

    path: str
    format: str
    layout: str | None
    kind: Kind
    tokenizer: str | None
    digest: str
    facts: Mapping[str, Any]

    def describe(self) -> dict[str, Any]:
        """For the student's card: no path of the machine."""
        kept = ("sources", "partial", "tokenizer", "read", "dropped", "kept", "splits")
        return {
            "name": PurePath(self.path.rstrip("/")).name,
            "format": self.format,
            "layout": self.layout,
            "digest": self.digest,
            "filters": self.facts.get("config", {}).get("filters"),
            "config_hash": self.facts.get("config_hash"),
            **{name: self.facts.get(name) for name in kept},
        }


def read_exports(data: TrainingRows) -> list[Export]:
    """The folders that a config names. Raises InputError naming the folder that is none, is not
    complete, holds rows that no student can be trained on, or differs in kind from the first."""
    exports = [_read(path) for path in data.exports]
    first = exports[0]
    for other in exports[1:]:
        if (other.format, other.layout) != (first.format, first.layout):
            raise InputError(
                f"{other.path} holds rows of format {_shown(other)}, and {first.path} of "
                f"{_shown(first)}: data.exports must be of one format"
            )
    return exports


def _read(path: str) -> Export:
    try:
        folder = Folder(path)
        if not folder.exists(FACTS):
            raise InputError(f"{path} is no folder of `nabla export`: it has no {FACTS}")
        content = folder.read(FACTS)
        if not folder.exists(SUCCESS) or folder.read(SUCCESS).decode().strip() != checksum_of(
            content
        ):
            raise InputError(
                f"{path} is not complete: {SUCCESS} does not confirm {FACTS}; give the command "
                "that exports it again"
            )
        facts = json.loads(content)
        kind = KINDS.get(facts["format"])
        if kind is None:
            raise InputError(
                f"{path} holds rows of format {facts['format']}: a student is trained on "
                f"{', '.join(KINDS)}"
            )
        made_in_text = facts["format"] == "tokens" or facts["layout"] == "text"
        return Export(
            path=path,
            format=facts["format"],
            layout=facts["layout"],
            kind=kind,
            tokenizer=facts["tokenizer"]["fingerprint"] if made_in_text else None,
            digest=checksum_of(content),
            facts=facts,
        )
    except InputError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}/{FACTS} is damaged: {error}") from error


def _shown(export: Export) -> str:
    return f"{export.format} ({export.layout})" if export.layout else export.format
