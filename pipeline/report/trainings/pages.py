"""What the pages of a run without traces are made of: curves, checkpoints, cards, rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pipeline.errors import InputError
from pipeline.improve.status import improve_status
from pipeline.references import redacted, shown_uri
from pipeline.report import pages
from pipeline.report.tokens import run_config
from pipeline.report.trainings.judges import judge_curves, judge_tables
from pipeline.store.checks.owner import owner_of
from pipeline.store.checks.version import check_version
from pipeline.store.files import MALFORMED, Folder
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.training.folder import CARDS
from pipeline.training.history import read_history
from pipeline.training.status import training_status

DUALITY = "report.html"


def is_without_traces(uri: str) -> bool:
    """Whether a folder is that of a job which `write_training` knows. Raises StoreError."""
    folder = open_folder(uri)
    with translate_os_errors(uri):
        owner = owner_of(folder)
    return owner is not None and owner.job in (*CARDS, "improve", "duality")


def write_training(target: Path, uri: str) -> dict[str, Any]:
    """Write the scripts of such a run; returns the content of its run.js. Raises InputError where
    there is nothing to show yet, and StoreError."""
    folder = open_folder(uri)
    with translate_os_errors(uri):
        check_version(folder)
        owner = owner_of(folder)
        job = owner.job if owner else ""
        if job == "duality":
            facts = _duality(target, folder)
        elif job == "improve":
            facts = _rounds(folder)
        else:
            facts = _training(folder, CARDS[job])
    name = PurePath(shown_uri(uri).partition("?")[0]).name
    value: dict[str, Any] = {
        **pages.head("training", name),
        "config": redacted(dict(run_config(folder))),
        **redacted(facts),
    }
    value["summary"] = f"nabla {job}, {value['summary']}"
    (target / "run.js").write_bytes(pages.run_script(value))
    return value


def _training(folder: Folder, card: str) -> dict[str, Any]:
    status = training_status(folder, card)
    history = read_history(folder) or {"measurements": []}
    measurements: list[Mapping[str, Any]] = history["measurements"]
    progress = status.progress
    steps = f", step {progress.step} of {progress.steps}" if progress else ""
    found, damaged = _card(folder, card)
    number = found.get("chosen_step") if found else None
    chosen = f", step {number} was chosen" if number is not None else ""
    # What the base was worth, of trainings that measured it.
    before = history.get("baseline") or {}
    rows: list[Mapping[str, Any]] = [{"step": "before training", **before}] if before else []
    rows += [
        {**m, "step": f"{number} (chosen)"} if m["step"] == number else m for m in measurements
    ]
    tables = [_table("Checkpoints", rows, "step")] if measurements else []
    facts: dict[str, Any] = {
        "summary": f"{status.state}{steps}{chosen}.",
        "failure": status.failure,
        "unit": "step",
        "curves": _curves(measurements, "step"),
        "tables": tables,
        "card": found,
        "damaged": damaged,
    }
    shown = next((m for m in measurements if m["step"] == number), (measurements or [{}])[-1])
    if isinstance(report := shown.get("report"), Mapping):
        title, last = f"step {shown['step']}", before.get("report")
        tables += judge_tables(report, last, title)
        facts["best_of"] = judge_curves(report, last, title)
    return facts


def _rounds(folder: Folder) -> dict[str, Any]:
    status = improve_status(folder)
    planned = "" if status.rounds is None else f" of {status.rounds}"
    chosen = "" if status.chosen is None else f"; round {status.chosen} is the best"
    steps = [{"step": name, "run folder": shown_uri(uri)} for name, uri in status.steps.items()]
    figures = [{"number": n, **round_} for n, round_ in enumerate(status.figures)]
    tables = [_table("Rounds", figures, "number")] if figures else []
    if steps:
        tables.append(_table("Steps, each with pages of its own: nabla report", steps, "step"))
    return {
        "summary": f"{max(len(status.figures) - 1, 0)}{planned} rounds ended{chosen}.",
        "unit": "round",
        "curves": _curves(figures, "number"),
        "tables": tables,
    }


def _duality(target: Path, folder: Folder) -> dict[str, Any]:
    if not folder.exists(DUALITY):
        raise InputError(f"{folder.uri} has no {DUALITY} yet: the stage writes it at its end")
    (target / "duality.html").write_bytes(folder.read(DUALITY))
    return {"summary": "its report is below.", "frame": "duality.html"}


def _card(folder: Folder, name: str) -> tuple[dict[str, Any] | None, str | None]:
    """The card, None of a training that goes on; and its name where it is damaged."""
    try:
        return dict(json.loads(folder.read(name))), None
    except FileNotFoundError:
        return None, None
    except MALFORMED:
        return None, name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _curves(measured: Sequence[Mapping[str, Any]], along: str) -> dict[str, Any]:
    """For each figure its points, where at least one checkpoint has a number."""
    names = dict.fromkeys(name for m in measured for name, v in m.items() if _is_number(v))
    return {
        name: {name: [[m[along], m[name] if _is_number(m.get(name)) else None] for m in measured]}
        for name in names
        if name != along
    }


def _table(title: str, measured: Sequence[Mapping[str, Any]], first: str) -> dict[str, Any]:
    # Figures of figures have tables of their own.
    found = (n for m in measured for n, value in m.items() if not isinstance(value, Mapping | list))
    names = dict.fromkeys([first, *found])
    rows = [[_cell(m.get(name)) for name in names] for m in measured]
    return {"title": title, "header": list(names), "rows": rows}


def _cell(value: Any) -> Any:
    return value if value is None or _is_number(value) else str(value)
