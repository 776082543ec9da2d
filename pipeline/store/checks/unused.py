"""A run folder must not be made in a folder that holds something else."""

from __future__ import annotations

from pyarrow import fs as pafs

from pipeline.errors import ResumeError
from pipeline.store.checks.owner import FILE as JOB
from pipeline.store.checks.version import FILE as VERSION
from pipeline.store.files import LEASE, TEMPORARY, Folder

# What a job writes before it marks the folder as its own; a crash may leave it.
_BEFORE = (VERSION, LEASE, "staging")


def check_unused(folder: Folder) -> None:
    """Raises ResumeError where the folder belongs to no job and holds files or folders: the job
    would write among them. A missing folder passes."""
    if folder.exists(JOB):
        return
    selector = pafs.FileSelector(folder.root, allow_not_found=True)
    infos = folder.retrying(lambda: folder.fs.get_file_info(selector))
    names = sorted(info.base_name for info in infos)
    foreign = [n for n in names if n not in _BEFORE and not n.startswith(TEMPORARY)]
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise ResumeError(
            f"{folder.uri} is no run folder and holds {shown}: give a new or an empty run_dir"
        )
