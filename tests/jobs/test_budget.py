"""Runs that reach a budget, and go on with a larger one."""

import json
import threading
from collections import Counter

import pytest

from jobs import status
from jobs.exit_codes import ExitCode
from tests.jobs.test_generate import content, rows

TEXTS = [f"question {n}" for n in range(40)]
SMALL = ["cluster.in_flight=2", "runtime.max_batch=2", "decoding.method=sample"]


def made(run):
    """The rows of a run that is not finished, by prompt; each of them once."""
    found = rows(run, "parts")
    assert Counter(row["prompt_id"] for row in found).most_common(1)[0][1] == 1
    return {row["prompt_id"]: row for row in found}


def undisturbed(row):
    return {
        name: value
        for name, value in row.items()
        if name not in ("created_at", "worker", "attempt", "cost")
    }


def test_a_run_stops_at_each_budget_and_goes_on_to_the_rows_of_a_run_without_one(
    job, prompts, tmp_path, capsys
):
    path = prompts(*TEXTS)
    run, log = tmp_path / "run", tmp_path / "rollouts"
    lm = f"scripted?delay=0.05&flops=10&log={log}"

    assert job(path, *SMALL, "budget.rows=5", lm=lm) == ExitCode.BUDGET
    assert f"{run}: stopped at budget.rows=5; a larger one continues" in capsys.readouterr().out
    # The first prompts of the input, and exactly as many.
    assert sorted(made(run)) == [f"p{n}" for n in range(5)]
    spent = sum(row["cost"]["flops"] for row in made(run).values())
    assert not (run / "_SUCCESS").exists()
    served = log.read_text()
    assert job(path, *SMALL, "budget.rows=5", lm=lm) == ExitCode.BUDGET
    assert log.read_text() == served

    flops = 2.5 * spent
    assert job(path, *SMALL, f"budget.flops={flops}", lm=lm) == ExitCode.BUDGET
    assert f"stopped at budget.flops={flops:g}" in capsys.readouterr().out
    known = made(run)
    assert sum(row["cost"]["flops"] for row in known.values()) >= flops
    assert 10 <= len(known) < 30
    # What had begun was finished.
    begun = Counter(log.read_text().splitlines())
    assert begun.keys() == {row["question"] for row in known.values()}

    assert job(path, *SMALL, "budget.seconds=0.01", lm=lm) == ExitCode.BUDGET
    assert "stopped at budget.seconds=0.01" in capsys.readouterr().out
    assert made(run).keys() >= known.keys()
    assert status.main([f"run_dir={run}"]) == 0
    assert f"committed  {len(made(run))} of 40 rows" in capsys.readouterr().out

    known = made(run)
    assert job(path, *SMALL, "budget.rows=100", "budget.seconds=1000", lm=lm) == ExitCode.DONE
    assert "40 of 40" in capsys.readouterr().out
    finished = {row["prompt_id"]: row for row in rows(run)}
    assert len(rows(run)) == len(finished) == 40
    assert {name: finished[name] for name in known} == known
    assert job(path, *SMALL, f"run_dir={tmp_path / 'whole'}", lm=lm) == ExitCode.DONE
    assert content(run) == content(tmp_path / "whole")


def test_the_time_is_up_also_while_no_prompt_ends(job, prompts, tmp_path, capsys):
    path = prompts("!hang", "fine")
    code = job(path, "cluster.hang_seconds=500", "budget.seconds=3", "decoding.method=sample")
    assert code == ExitCode.BUDGET
    assert "stopped at budget.seconds=3" in capsys.readouterr().out
    # It would ask a Ray that is shut down.
    assert not [thread.name for thread in threading.enumerate() if "Executor" in thread.name]


@pytest.mark.parametrize(("options", "code"), [((), 3), (("--ok-with-dead",), 0)])
def test_dead_letters_alone_are_no_failure_where_they_are_expected(
    job, prompts, tmp_path, options, code
):
    path = prompts("fine", "!raise")
    assert job(path, "max_dead_fraction=1", *options) == code
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["counts"] == {"rows": 2, "finished": 1, "dead": 1}
