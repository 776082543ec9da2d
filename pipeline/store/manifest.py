"""manifest.json: the provenance of a run's rows."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.references import redacted

PACKAGES = ("nabla-pipeline", "torch", "transformers", "ray", "pyarrow", "datasets")


def describe(
    totals: Mapping[str, Any],
    *,
    config_hash: str,
    schema: pa.Schema,
    counts: Mapping[str, int],
    checksums: Mapping[str, str],
    notes: Iterable[str],
) -> dict[str, Any]:
    """The manifest of a finished run, ready for JSON; it holds no path of the machine and no value
    from the environment.

    `totals` are the recipe's, models among them; `checksums` are those of the final files.
    """
    described: dict[str, Any] = {
        "schema": schema.metadata[b"nabla_schema"].decode(),
        "config_hash": config_hash,
        "commit": commit(),
        "versions": versions(),
        "counts": dict(counts),
        **totals,
        "checksums": dict(checksums),
        "notes": list(notes),
    }
    without_values: dict[str, Any] = redacted(described)
    return without_values


def versions(*more: str) -> dict[str, str]:
    """The versions of Python and of the packages that can change a row (and of `more`), if
    installed."""
    installed = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def commit() -> str | None:
    """The git commit of this code, with "+" if tracked files differ from it; None outside git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
