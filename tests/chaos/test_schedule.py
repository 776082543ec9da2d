"""Kills and freezes of every kind of process during one run on a cluster of several nodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.comparison import count_differences, rows_by_key
from tests.chaos.schedule import KINDS, plan
from tests.tolerance import REWARD

ROOT = Path(__file__).parents[2]
# A kill costs at most the rollouts of everything in flight or unflushed in all actors.
MOST_LOST_A_KILL = 4 * (16 + 3) * 4


def row(prompt_id: str, **columns: object) -> dict:
    columns = {"folder": "data", "cost": {"seconds": 1.0, "rollouts": 2}, **columns}
    return {"prompt_id": prompt_id, "sample": 0, "worker": "w", "attempt": 1, **columns}


def test_the_comparison_counts_every_kind_of_difference():
    rows = [row("a"), row("b"), row("c")]
    expected = rows_by_key(rows)
    elsewhere = [r | {"worker": "v", "attempt": 2, "created_at": 1} for r in rows]
    assert not any(count_differences(expected, rows_by_key(elsewhere)).values())
    wrong = [row("a"), row("a"), row("b", response="x"), row("d")]
    found = count_differences(expected, rows_by_key(wrong))
    assert found == {"lost": 1, "duplicated": 1, "unexpected": 1, "altered": 1}
    for other in (
        row("c", folder="dead_letter"),
        row("c", cost={"seconds": 1.0, "rollouts": 3}),
    ):
        assert count_differences(expected, rows_by_key([*rows[:2], other]))["altered"] == 1


def revised(**columns: object) -> dict:
    """A row with one revision, in which a test changes something."""
    tokens = {
        "position": 2,
        "from_token": 3,
        "to_token": 4,
        "from_text": "c",
        "to_text": "d",
        "tail_token_ids": [4],
    }
    made = {**tokens, "accepted": True, "reward_before": 1.0, "reward_after": 2.0, **columns}
    return row("a", reward=2.0, base_reward=1.0, response="d", revisions=[made])


def test_rewards_within_the_tolerance_are_the_same_and_decisions_must_be_equal():
    expected = rows_by_key([revised()])
    near, far = 0.9 * REWARD, 1.1 * REWARD
    for same in (
        revised(reward_after=2.0 + near),
        revised(reward_before=1.0 - near),
        revised() | {"reward": 2.0 - near},
        revised() | {"base_reward": 1.0 + near},
    ):
        assert count_differences(expected, rows_by_key([same]))["altered"] == 0
    for altered in (
        revised(reward_after=2.0 + far),
        revised(reward_after=None),
        revised() | {"reward": 2.0 - far},
        revised() | {"reward": None},
        revised() | {"base_reward": 1.0 + far},
        revised(accepted=False),
        revised(to_token=5),
        revised(position=3),
        revised() | {"response": "e"},
        revised() | {"revisions": []},
    ):
        assert count_differences(expected, rows_by_key([altered]))["altered"] == 1


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twelve_kills_of_all_kinds_lose_duplicate_and_alter_nothing():
    command = [sys.executable, "-m", "tests.chaos.schedule", "--seed", "32", "--kills", "12"]
    done = subprocess.run(
        [*command, "--prompts", "40", "--longest-freeze", "6"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    print(done.stdout)
    report = json.loads(done.stdout.splitlines()[-1])
    kinds = ("lost", "duplicated", "unexpected", "altered")
    assert {name: report[name] for name in kinds} == dict.fromkeys(kinds, 0)
    # Ray may declare a head dead on a busy machine; the driver then ends and is started again.
    assert report["gave_up"] <= 1
    assert report["kills"] >= 12
    planned = set(plan("32-0", 12))
    assert planned == set(KINDS)
    assert min(report[f"kills_{kind}"] for kind in ("actor", "raylet", "driver", "head")) > 0
    # The suspended driver goes on after another one took over, and ends by its lost lease.
    assert report["kills_freeze_driver"] > 0
    assert "0" not in report["replaced"]
    assert report["hung"] == 0
    assert report["workers"] > 4
    assert report["nodes"] > 2
    assert report["passes_lost_a_kill"] <= MOST_LOST_A_KILL
