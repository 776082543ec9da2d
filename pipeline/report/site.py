"""The folder of a report: the page, its script and style, and a folder that is there as a whole or
not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from pipeline.errors import ResumeError, StoreError
from pipeline.store.checks.owner import FILE as JOB_FILE
from pipeline.store.run_folder import translate_os_errors

MARKER = "_REPORT"
PAGE = "index.html"
# In this order they are one script: a later part uses what an earlier one defines.
PARTS = (
    *(
        "data",
        "dom",
        "text",
        "glossary",
        "charts",
        "rows",
        "chunk",
        "search",
        "filters",
        "overview",
    ),
    *("browser", "tokens", "trace", "compare", "compared", "training", "main"),
)
_HEAD = "// The parts of pipeline/report/web, one after the other. `nabla report` joins them.\n"


def page() -> dict[str, bytes]:
    """The files that are the same in every report, by name."""
    web = files("pipeline.report") / "web"
    parts = [(web / f"{name}.js").read_text(encoding="utf-8") for name in PARTS]
    code = f'{_HEAD}(function () {{\n"use strict";\n' + "\n".join(parts) + "\n})();\n"
    return {
        PAGE: (web / PAGE).read_bytes(),
        "report.css": (web / "report.css").read_bytes(),
        "report.js": code.encode(),
    }


def write_page(target: Path) -> None:
    """Write the page into a folder."""
    for name, data in page().items():
        (target / name).write_bytes(data)


@contextmanager
def building(out: str) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block ends without an exception; until
    then an earlier report stays as it is.

    Raises StoreError where `out` holds something else or is no local path.
    """
    if "://" in out:
        raise StoreError(f"out {out} is a URI: give a local folder, and copy it from there")
    target = Path(out).expanduser().absolute()
    with translate_os_errors(out, "out"):
        _check(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        new.mkdir()
        try:
            yield new
            (new / MARKER).write_text(json.dumps({"schema": "report/1"}) + "\n")
            _replace(new, target)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _check(target: Path) -> None:
    if target.is_file():
        raise ResumeError(f"out {target} is a file: give a folder")
    if not target.is_dir() or (target / MARKER).is_file():
        return
    found = sorted(entry.name for entry in target.iterdir())
    if JOB_FILE in found:
        raise ResumeError(f"out {target} is a run folder: give another out")
    if found:
        raise ResumeError(
            f"out {target} holds something else ({', '.join(found[:3])}): give an empty out"
        )


def _replace(new: Path, target: Path) -> None:
    old = new.with_suffix(".old")
    # Two renames: a folder that is not empty cannot be replaced by one.
    with suppress(FileNotFoundError):
        os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
