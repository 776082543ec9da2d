"""`jobs.report`: run folders in, a folder of pages out. Nothing here imports torch or ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pipeline.errors import InputError
from pipeline.report.arms import open_arms
from pipeline.report.committed import ChangedError
from pipeline.report.comparisons import runs_of
from pipeline.report.config import ReportConfig
from pipeline.report.site import PAGE, building, write_page
from pipeline.report.trainings.pages import is_without_traces, write_training
from pipeline.report.writer import Progress, write_traces

# A run that is being compacted replaces its files once.
_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class ReportOutcome:
    """Pages that are written. `page` is the file to open, `facts` the content of its run.js.
    `missing`: arms of a comparison that have no traces in the pages, each with the reason."""

    page: Path
    facts: dict[str, Any]
    missing: Mapping[str, str]

    @property
    def warnings(self) -> list[str]:
        """What a reader of the pages should know; the pages say it too."""
        found = [f"{name} has no traces here: {reason}" for name, reason in self.missing.items()]
        if damaged := self.facts.get("damaged"):
            found.append(f"{damaged} is damaged and left out")
        for arm in self.facts.get("arms", ()):
            have, of = arm["figures"]["rows"] + arm["figures"]["dead"], arm["expected"]
            if of is not None and have < of:
                found.append(f"{arm['name']} is not finished: {have} of {of} rows are committed")
            if arm["damaged"]:
                found.append(f"{arm['name']}: {arm['damaged']} damaged files are left out")
            if not arm["config"]:
                found.append(f"{arm['name']}: its config.yaml is missing or damaged")
            if not arm["tokens"] and have:
                found.append(
                    f"{arm['name']}: the tokenizer of its LM was not found, so tokens are not "
                    "shown; give tokenizer=FOLDER"
                )
        return found


def report(config: ReportConfig, progress: Progress) -> ReportOutcome:
    """Write the pages. Raises InputError, StoreError, ConfigError, and RunError where the disk is
    full; then an earlier report stays as it is."""
    out = config.out or default_out(config.run_dir[0])
    for attempt in range(_ATTEMPTS):
        try:
            write, missing = _source(config)  # a mistyped run folder leaves no folder beside it
            with building(out) as folder:
                facts = write(folder, progress)
                write_page(folder)
            return ReportOutcome(page=Path(out).expanduser() / PAGE, facts=facts, missing=missing)
        except ChangedError:
            if attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _source(
    config: ReportConfig,
) -> tuple[Callable[[Path, Progress], dict[str, Any]], Mapping[str, str]]:
    """What writes the scripts of the run folders into a folder, and arms that are missing. Raises
    InputError."""
    others = [uri for uri in config.run_dir if is_without_traces(uri)]
    if others and len(config.run_dir) > 1:
        raise InputError(f"{others[0]} holds no traces, and only runs of traces are compared")
    if others:
        return lambda folder, progress: write_training(folder, others[0]), {}
    runs = runs_of(config.run_dir)
    arms = open_arms(runs.uris, config.tokenizer, runs.names)
    return lambda folder, progress: write_traces(
        folder, arms, progress, runs.compared
    ), runs.missing


def default_out(run_dir: str) -> str:
    """Beside the run folder; for one in an object store in the present folder."""
    path = run_dir.partition("?")[0].rstrip("/")
    return f"{PurePath(path).name if '://' in path else path}-report"
