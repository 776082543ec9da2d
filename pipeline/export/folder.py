"""The dataset folder: its files, whose it is, and reading its facts back.

README.md is the contract. Nothing here imports torch or ray.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from pipeline.errors import InputError, ResumeError
from pipeline.store.checks.owner import COMPOSING, owner_of
from pipeline.store.checks.owner import FILE as JOB_FILE
from pipeline.store.checks.version import FILE as VERSION_FILE
from pipeline.store.files import LEASE, TEMPORARY, Folder, checksum_of
from pipeline.store.final import SUCCESS
from pipeline.store.lease import STAGING

SCHEMA = "export/1"
MARKER, FACTS, CARD, CONTAMINATED = "_EXPORT", "export.json", "README.md", "contaminated.jsonl"
DEFAULT, METADATA = "default", "metadata"
# Files of the lease are nobody's data.
_IGNORED = (LEASE, STAGING)


@dataclass(frozen=True, kw_only=True)
class Export:
    """A complete dataset folder. `facts` is the content of export.json (README.md)."""

    uri: str
    facts: Mapping[str, Any]

    @property
    def format(self) -> str:
        return str(self.facts["format"])

    @property
    def layout(self) -> str | None:
        layout: str | None = self.facts["layout"]
        return layout

    @property
    def config_hash(self) -> str:
        return str(self.facts["config_hash"])

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Of the tokenizer whose ids the rows hold or that rendered them; None without one."""
        tokenizer: Mapping[str, str] | None = self.facts["tokenizer"]
        return tokenizer["fingerprint"] if tokenizer else None

    def rows(self, split: str = "train") -> int:
        """Rows of a split of the config `default`; 0 where there is no such split."""
        return int(self.facts["splits"].get(split, 0))


def is_export(uri: str) -> bool:
    """Whether a folder is a dataset folder of `export`, complete or not."""
    return Folder(uri).exists(MARKER)


def read_export(uri: str, *, check_files: bool = False) -> Export:
    """A complete dataset folder. With `check_files` the checksum of every Parquet file is compared.

    Raises InputError: no export, not complete, of another version, or damaged.
    """
    try:
        folder = Folder(uri)
        if not folder.exists(MARKER):
            raise InputError(f"{uri} is no folder of `nabla export`: it has no {MARKER}")
        if not folder.exists(SUCCESS):
            raise InputError(
                f"{uri} is not complete: it has no {SUCCESS}; give the command that made it again"
            )
        data = folder.read(FACTS)
        if folder.read(SUCCESS).decode(errors="replace").strip() != checksum_of(data):
            raise InputError(f"{uri}/{FACTS} is not the one that {SUCCESS} names: export it again")
        facts = json.loads(data)
        if facts["schema"] != SCHEMA:
            raise InputError(
                f"{uri} is of {facts['schema']}, and this release reads {SCHEMA}: export it again"
            )
        _check_files(folder, facts["files"], with_sums=check_files)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(f"cannot read {uri}: {error}") from error
    return Export(uri=uri, facts=facts)


def _check_files(folder: Folder, sums: Mapping[str, str], *, with_sums: bool) -> None:
    for name, expected in sums.items():
        if not folder.exists(name):
            raise InputError(f"{folder.uri}/{name} is missing: export it again")
        if with_sums and folder.checksum(name) != expected:
            raise InputError(f"{folder.uri}/{name} was altered: export it again")


def check_free(folder: Folder, digest: str, differences: str) -> None:
    """Raises ResumeError unless the folder is empty or holds this very export, complete or not.

    `digest` stands for settings and sources; `differences` is what to say of another export's.
    """
    if folder.exists(MARKER):
        try:
            found = json.loads(folder.read(MARKER))["digest"]
        except (ValueError, KeyError, TypeError):
            found = None
        if found != digest:
            raise ResumeError(
                f"{folder.uri} holds another export; give another out, or delete it{differences}"
            )
        return
    _check_enclosing(folder)
    others = [name for name in _entries(folder) if not name.startswith(TEMPORARY)]
    if JOB_FILE in others or VERSION_FILE in others:
        raise ResumeError(f"{folder.uri} is a run folder: give another out")
    if others:
        raise ResumeError(
            f"{folder.uri} holds something else ({', '.join(others[:3])}): give an empty out"
        )


def claim(folder: Folder, digest: str, settings: Mapping[str, Any]) -> None:
    """Mark the folder as that of an export."""
    if not folder.exists(MARKER):
        content = {"schema": SCHEMA, "digest": digest, "settings": settings}
        folder.write(MARKER, json.dumps(content, indent=1).encode())


def stored_settings(folder: Folder) -> dict[str, Any]:
    """The settings in the marker of a folder, for the message of a difference; may be empty.
    Raises ResumeError where `out` is a file."""
    if folder.fs.get_file_info(folder.root).is_file:
        raise ResumeError(f"out {folder.uri} is a file: give a folder")
    try:
        return dict(json.loads(folder.read(MARKER))["settings"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _check_enclosing(folder: Folder) -> None:
    """Raises ResumeError for a local folder in the run folder of a job that composes no others."""
    for parent in Path(folder.root).parents if folder.local else ():
        # os.path.exists: a parent that this user may not read holds no run of theirs.
        if os.path.exists(parent / JOB_FILE):
            owner = owner_of(Folder(str(parent)))
            if owner is not None and owner.job in COMPOSING:
                return
            raise ResumeError(f"{folder.uri} lies in the run folder {parent}: give another out")


def _entries(folder: Folder) -> list[str]:
    selector = pafs.FileSelector(folder.root, allow_not_found=True)
    infos = folder.fs.get_file_info(selector)
    return sorted(i.base_name for i in infos if i.base_name not in _IGNORED)
