"""Folders of `nabla export`, or files, as the data of a student. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from pipeline.distill.config import DistillConfig
from pipeline.distill.conversations import facts_of
from pipeline.distill.folder import EXPORT
from pipeline.distill.models import student_of
from pipeline.errors import InputError
from pipeline.export.config import ExportConfig, Tokenizer
from pipeline.export.folder import read_export
from pipeline.store.files import Folder
from pipeline.store.final import SUCCESS
from pipeline.store.uris import below, without_query
from pipeline.training.cost import total_of_data

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
    """A complete folder of `nabla export`, or with `is_file` a file of prompts and completions.

    `facts` are those of its `export.json`, `digest` the checksum of that file, which holds the
    checksums of all others (of a file: a digest of its rows). `tokenizer` is the fingerprint of the
    tokenizer that made the rows, None where rows are messages.
    """

    path: str
    format: str
    layout: str | None
    kind: Kind
    tokenizer: str | None
    digest: str
    facts: Mapping[str, Any]
    is_file: bool = False

    @property
    def name(self) -> str:
        """The folder's name, without a path of the machine."""
        return PurePath(without_query(self.path).rstrip("/")).name

    def describe(self) -> dict[str, Any]:
        """For the student's card: no path of the machine."""
        kept = ("sources", "partial", "tokenizer", "read", "dropped", "kept", "splits")
        return {
            "name": self.name,
            "format": self.format,
            "layout": self.layout,
            "digest": self.digest,
            "filters": self.facts.get("config", {}).get("filters"),
            "config_hash": self.facts.get("config_hash"),
            **{name: self.facts.get(name) for name in kept},
        }


def read_exports(config: DistillConfig) -> list[Export]:
    """The folders or files that a config trains on. Raises InputError naming the folder that is
    none, is not complete, holds rows that no student can be trained on, or differs in format from
    the first; and naming the row of a file that cannot be read."""
    if config.data.files:
        return [_read_file(path) for path in config.data.files]
    exports = [_read(path) for path in folders_of(config)]
    first = exports[0]
    for other in exports[1:]:
        if (other.format, other.layout) != (first.format, first.layout):
            raise InputError(
                f"{other.path} holds rows of format {_shown(other)}, and {first.path} of "
                f"{_shown(first)}: data.exports must be of one format"
            )
    return exports


def folders_of(config: DistillConfig) -> tuple[str, ...]:
    """The dataset folders; that of the section `export` is in the run folder."""
    return config.data.exports or (below(config.run_dir, EXPORT),)


def flops_of_data(exports: Sequence[Export]) -> float | None:
    """FLOPs of the run folders that the exports read, one that serves several once; None where an
    export does not tell."""
    sources = [source for export in exports for source in export.facts.get("sources") or [{}]]
    return total_of_data({str(source.get("digest")): source for source in sources}.values())


def export_config(config: DistillConfig) -> ExportConfig:
    """The settings of the export of the section `export`."""
    path, revision = student_of(config)
    section = config.export
    return ExportConfig(
        run_dir=section.run_dir,
        out=folders_of(config)[0],
        format=section.format,
        layout=section.layout,
        pairs=section.pairs,
        allow_partial=section.allow_partial,
        filters=section.filters,
        split=section.split,
        tokenizer=Tokenizer(path, revision),
    )


def kind_of(format: str) -> Kind | None:
    """How rows of a format are trained on; None where no student is."""
    return KINDS.get(format)


def _read(path: str) -> Export:
    found = read_export(path)
    kind = kind_of(found.format)
    if kind is None:
        raise InputError(
            f"{path} holds rows of format {found.format}: a student is trained on "
            f"{', '.join(KINDS)}"
        )
    # Messages can be rendered for any student.
    rendered = found.format == "tokens" or found.layout == "text"
    return Export(
        path=path,
        format=found.format,
        layout=found.layout,
        kind=kind,
        tokenizer=found.tokenizer_fingerprint if rendered else None,
        digest=Folder(path).read(SUCCESS).decode().strip(),
        facts=found.facts,
    )


def _read_file(path: str) -> Export:
    facts, digest = facts_of(path)
    return Export(
        path=path,
        format="sft",
        layout="prompt_completion",
        kind="responses",
        tokenizer=None,
        digest=digest,
        facts=facts,
        is_file=True,
    )


def _shown(export: Export) -> str:
    return f"{export.format} ({export.layout})" if export.layout else export.format
