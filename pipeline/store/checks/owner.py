"""The job that a run folder belongs to, in the file `_JOB`.

Two jobs with one `run_dir` would each take the other's rows for damaged ones. So the first job
that enters a folder marks it, and every other job is refused before it writes anything.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import ResumeError
from pipeline.store.checks.version import check_version, claim_version
from pipeline.store.files import MALFORMED, Folder

FILE = "_JOB"

# Their run folders hold run folders of other jobs.
COMPOSING = ("compare", "distill", "duality", "improve")


@dataclass(frozen=True)
class Owner:
    """A job by its verb, and the kind of rows it makes with the version of their table, such as
    `traces/5`; None for a job that makes no rows."""

    job: str
    rows: str | None = None


def check_owner(folder: Folder, owner: Owner) -> None:
    """Raises ResumeError unless the folder is free or belongs to `owner`, and VersionError.
    Changes nothing."""
    check_version(folder)
    current = owner_of(folder)
    if current is None:
        _check_enclosing(folder, owner)
    elif current.job != owner.job:
        raise ResumeError(
            f"{folder.uri} is the run folder of `nabla {current.job}`, and this is "
            f"`nabla {owner.job}`: give another run_dir"
        )
    elif current.rows != owner.rows:
        raise ResumeError(
            f"{folder.uri} holds rows of {current.rows}, and this release makes rows of "
            f"{owner.rows}: give another run_dir, or use the release that made it"
        )


def claim_owner(folder: Folder, owner: Owner) -> None:
    """Mark the folder as this job's, and a new one with the version. Raises as `check_owner` does.

    A marker that is missing or damaged is written again: `config_check` has compared the settings
    by then, and no two jobs have the same ones.
    """
    check_owner(folder, owner)
    claim_version(folder)
    if owner_of(folder) is None:
        folder.write(FILE, json.dumps(asdict(owner)).encode())


def owner_of(folder: Folder) -> Owner | None:
    """The owner by the marker; None where it is missing or damaged."""
    if not folder.exists(FILE):
        return None
    return _parse(folder.read(FILE))


def _parse(data: bytes) -> Owner | None:
    try:
        marker = json.loads(data)
        job, rows = marker["job"], marker["rows"]
    except MALFORMED:
        return None
    return Owner(job, rows) if isinstance(job, str) and isinstance(rows, str | None) else None


def _check_enclosing(folder: Folder, owner: Owner) -> None:
    """Raises ResumeError for a new folder inside that of a job which does not compose others."""
    if not folder.local:
        return
    for parent in Path(folder.root).parents:
        # os.path.exists: a parent that this user may not read holds no run of theirs.
        if os.path.exists(parent / FILE):
            enclosing = _parse((parent / FILE).read_bytes())
            if enclosing is not None and enclosing.job not in COMPOSING:
                raise ResumeError(
                    f"{folder.uri} lies in {parent}, which is the run folder of "
                    f"`nabla {enclosing.job}`: give `nabla {owner.job}` another run_dir"
                )
            return
