"""What the commands that make rows say when they are interrupted."""

from __future__ import annotations

import argparse

from jobs import rows
from jobs.command import Command
from jobs.exit_codes import ExitCode
from tests.jobs.test_status import traces


def test_the_last_line_names_the_folder_and_the_rows_that_are_committed(tmp_path, capsys):
    run = str(tmp_path)

    def interrupted(progress):
        progress.started(40, 0, 0)
        traces(run, 20, dead=1)  # committed, and no worker could say so
        raise KeyboardInterrupt

    def last_line(job) -> str:
        def start(options: argparse.Namespace) -> int:
            return rows.run(run, job, lambda outcome: None)

        command = Command(name="x", summary="", description="", add_options=print, run=start)
        assert command.main([]) == ExitCode.INTERRUPTED
        return capsys.readouterr().out.splitlines()[-1]

    def at_once(progress):
        raise KeyboardInterrupt

    kept = "; the same command continues from it"
    assert last_line(at_once) == f"interrupted: {run}, no row committed{kept}"
    assert last_line(interrupted) == f"interrupted: {run}, 21 of 40 rows committed{kept}"
