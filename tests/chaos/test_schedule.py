"""Kills of everything that runs, over one run on a cluster of several nodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.schedule import KINDS, plan
from tests.chaos.verdict import content, verdict

ROOT = Path(__file__).parents[2]
# What a kill can cost at most: everything in flight or unflushed in all actors.
AT_STAKE = 4 * (16 + 3) * 4


def row(prompt_id: str, **columns: object) -> dict:
    columns = {"folder": "data", "cost": {"seconds": 1.0, "rollouts": 2}, **columns}
    return {"prompt_id": prompt_id, "sample": 0, "worker": "w", "attempt": 1, **columns}


def test_the_verdict_finds_what_is_wrong():
    rows = [row("a"), row("b"), row("c")]
    expected = content(rows)
    elsewhere = [r | {"worker": "v", "attempt": 2, "created_at": 1} for r in rows]
    assert not any(verdict(expected, content(elsewhere)).values())
    wrong = [row("a"), row("a"), row("b", response="x"), row("d")]
    found = verdict(expected, content(wrong))
    assert found == {"lost": 1, "duplicated": 1, "unexpected": 1, "altered": 1}
    assert verdict(expected, content([*rows[:2], row("c", folder="dead_letter")]))["altered"] == 1
    dearer = row("c", cost={"seconds": 1.0, "rollouts": 3})
    assert verdict(expected, content([*rows[:2], dearer]))["altered"] == 1


@pytest.mark.timeout(900)
def test_twenty_kills_of_everything_that_runs_lose_double_and_alter_nothing():
    command = [sys.executable, "-m", "tests.chaos.schedule", "--seed", "32", "--kills", "20"]
    done = subprocess.run(
        [*command, "--prompts", "60"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    print(done.stdout)
    report = json.loads(done.stdout.splitlines()[-1])
    verdicts = ("lost", "duplicated", "unexpected", "altered")
    assert {name: report[name] for name in verdicts} == dict.fromkeys(verdicts, 0)
    # Ray itself can give a starved head up; the driver then ends and is started again.
    assert report["gave_up"] <= 1
    assert report["kills"] >= 20
    planned = set(plan("32-0", 20))
    assert planned == set(KINDS)
    assert min(report[f"kills_{kind}"] for kind in ("actor", "raylet", "driver", "head")) > 0
    assert report["workers"] > 4
    assert report["nodes"] > 2
    assert report["passes_lost_a_kill"] <= AT_STAKE
