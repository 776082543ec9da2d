"""How far the rounds are, read from their folder. Needs neither Ray nor torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.store.checks.config_check import CONFIG
from pipeline.store.checks.owner import FILE as OWNER_FILE
from pipeline.store.files import MALFORMED, Folder
from pipeline.store.uris import below

ROUNDS = "rounds.json"
# The run folders of a round, in the order in which they begin.
STEPS = (
    *("traces", "samples", "greedy", "student", "validation-greedy"),
    *("answers-decoded", "judge", "validation-judge", "counterfactuals", "guide"),
    *("validation-search", "validation-search-before", "eval-greedy", "eval"),
)


@dataclass(frozen=True, kw_only=True)
class ImproveStatus:
    """`rounds` of training are planned, None where config.yaml does not say. `figures` are those of
    the rounds that ended, round 0 among them; `chosen` is the best one's number. `stopped` says why
    no round follows, None where one does. `steps` are the run folders of the steps that have begun,
    by name, in their order."""

    rounds: int | None
    figures: list[dict[str, Any]]
    chosen: int | None
    stopped: str | None
    steps: dict[str, str]

    @property
    def done(self) -> bool:
        """Whether no round will follow."""
        ended = len(self.figures) - 1
        hacked = bool(self.figures) and self.figures[-1]["reward_hacked"]
        return bool(self.figures) and (
            ended == self.rounds or hacked or self.stopped == "nothing_of_use"
        )


def improve_status(folder: Folder) -> ImproveStatus:
    """The status of a run folder of `nabla improve`."""
    figures, chosen, stopped = _figures(folder)
    return ImproveStatus(
        rounds=_rounds(folder),
        figures=figures,
        chosen=chosen,
        stopped=stopped,
        steps=dict(_steps(folder)),
    )


def _figures(folder: Folder) -> tuple[list[dict[str, Any]], int | None, str | None]:
    try:
        found = json.loads(folder.read(ROUNDS))
        for figures in found["rounds"]:
            float(figures["reward"])
            bool(figures["reward_hacked"])
        return found["rounds"], int(found["chosen"]), found.get("stop_reason")
    except (FileNotFoundError, *MALFORMED):
        return [], None, None


def _rounds(folder: Folder) -> int | None:
    try:
        rounds = yaml.safe_load(folder.read(CONFIG))["rounds"]
    except (FileNotFoundError, yaml.YAMLError, *MALFORMED):
        return None
    return rounds if type(rounds) is int else None


def _steps(folder: Folder) -> Iterator[tuple[str, str]]:
    number = 0
    while True:
        steps = [f"round-{number}/{step}" for step in STEPS]
        begun = [step for step in steps if folder.exists(f"{step}/{OWNER_FILE}")]
        if not begun:
            return
        for step in begun:
            yield step, below(folder.uri, step)
        number += 1
