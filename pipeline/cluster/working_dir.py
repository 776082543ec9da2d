"""Relative paths mean the same in every process of a run: they start at the folder in which the
command was started."""

from __future__ import annotations

import os


def enter_working_dir(path: str) -> None:
    """Make the driver's working directory that of this Ray worker.

    Ray starts the workers of a cluster in the directory of `ray start`. Where the node has no such
    folder, the worker stays where it is: it can only use absolute paths and hub ids.
    """
    if os.path.isdir(path):
        os.chdir(path)
