"""Folders of `nabla compare` as reports: the runs of their arms, and their figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from pipeline.errors import InputError, StoreError
from pipeline.references import shown_uri
from pipeline.report.committed import check_run
from pipeline.report.config import MOST_RUNS
from pipeline.store.checks.owner import FILE as JOB_FILE
from pipeline.store.checks.owner import owner_of
from pipeline.store.files import MALFORMED, Folder
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.store.uris import below
from pipeline.tables.flop_unit import flop_unit

SUMMARY, ARMS = "summary.json", "arms"


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The run folders of a report, with the names that the pages give them (None: those of the
    folders). `compared` are the figures of a comparison, None where the runs are not of one;
    `missing` are its arms that have no traces here, each with the reason."""

    uris: Sequence[str]
    names: Sequence[str] | None = None
    compared: dict[str, Any] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


def runs_of(uris: Sequence[str]) -> Runs:
    """The runs behind the folders of a config. Raises InputError where a comparison is not
    finished, stands beside other folders, or none of its runs is there, and StoreError."""
    comparisons = [uri for uri in uris if _is_comparison(uri)]
    if not comparisons:
        return Runs(uris=uris)
    if len(uris) > 1:
        raise InputError(f"{comparisons[0]} is a comparison: show it alone")
    return _compared(comparisons[0])


def _is_comparison(uri: str) -> bool:
    folder = open_folder(uri)
    with translate_os_errors(uri):
        owner = owner_of(folder)
    return owner is not None and owner.job == "compare"


def _compared(uri: str) -> Runs:
    summary = _summary(uri)
    # Rows are compared with those of the first run.
    arms = sorted(summary["arms"], key=lambda arm: bool(arm["name"] != summary["reference"]))
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for arm in arms:
        if len(found) == MOST_RUNS:
            missing[arm["name"]] = f"pages show {MOST_RUNS} runs at most"
            continue
        try:
            found[arm["name"]] = _run_folder(uri, arm["run_dir"])
        except (InputError, StoreError) as error:
            missing[arm["name"]] = str(error)
    if not found:
        raise InputError(f"{uri}: none of its runs can be read: {missing[arms[0]['name']]}")
    title = PurePath(shown_uri(uri).partition("?")[0]).name
    # Paths are of the machine that made it.
    figures = [{key: arm[key] for key in arm if key != "run_dir"} for arm in arms]
    yields = (arm.get("yields") for arm in arms)
    return Runs(
        uris=list(found.values()),
        names=list(found),
        compared={
            **summary,
            "title": title,
            "arms": figures,
            "missing": list(missing),
            "yield_unit": flop_unit(one["right_per_gflop"] for one in yields if one),
        },
        missing=missing,
    )


def _summary(uri: str) -> dict[str, Any]:
    try:
        found = json.loads(Folder(uri).read(SUMMARY))
    except FileNotFoundError as error:
        raise InputError(
            f"{uri} has no {SUMMARY} yet: give its command again, or show the runs below {ARMS}"
        ) from error
    except MALFORMED as error:
        raise InputError(f"{uri}/{SUMMARY} is damaged: give its command again") from error
    if not isinstance(found, Mapping) or not {"arms", "reference"} <= found.keys():
        raise InputError(f"{uri}/{SUMMARY} is not that of a comparison")
    return dict(found)


def _run_folder(uri: str, run_dir: str) -> str:
    """Where the run of an arm is: in the comparison's own folder, which may have been moved, or
    where it was. Raises InputError or StoreError where it cannot be read there."""
    own = below(uri, f"{ARMS}/{PurePath(run_dir.partition('?')[0]).name}")
    # What is in its own folder is meant, even where it cannot be read.
    place = own if Folder(own).exists(JOB_FILE) else run_dir
    check_run(place)
    return place
