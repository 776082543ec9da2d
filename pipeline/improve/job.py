"""The loop of `jobs.improve`: search, learn from the search, search again.

    run_dir/round-N/...  the steps of a round (see `steps`)
    run_dir/rounds.json  the figures of all rounds
    run_dir/chosen.yaml  the guide to use, as a config file of other jobs

Each step is a run of another job and resumes as that job does, so the same command continues
where it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Literal

from pipeline.cluster.connection import shared
from pipeline.config import overrides_yaml
from pipeline.counterfactuals.job import counterfactuals
from pipeline.errors import RunError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.job import generate
from pipeline.generate.plan import plan as generate_plan
from pipeline.improve import steps
from pipeline.improve.config import ImproveConfig
from pipeline.improve.ready import OWNER, check, resolved
from pipeline.improve.rounds import Evaluation, PromptResult, Round, choose, reward_hacked
from pipeline.improve.status import ROUNDS
from pipeline.run.plan import RunOutcome, Watcher, open_store
from pipeline.store.checks import config_check
from pipeline.store.files import Folder
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.train_guide.job import train_guide
from pipeline.training.progress import OnMeasurement

CHOSEN = "chosen.yaml"

Watch = Callable[[str], AbstractContextManager[Watcher]]
StopReason = Literal["completed", "reward_hacked"]


@dataclass(frozen=True)
class ImproveResult:
    """All rounds, the one whose guide is to be used, and why there are no more rounds."""

    rounds: Sequence[Round]
    chosen: Round
    stop_reason: StopReason


def improve(config: ImproveConfig, watch: Watch, on_measurement: OnMeasurement) -> ImproveResult:
    """Run all rounds, or continue them.

    `watch(name)` is the watcher of the run called `name`; `on_measurement` is called with the
    measurements of guides in training. Raises PipelineError and ModelError. After
    KeyboardInterrupt the folder can be resumed.
    """
    config, _ = resolved(config)
    workers = config.training.workers
    check(config)  # before the folder is opened, so that a refused config leaves no trace
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        config_check.check_config(folder, config, OWNER)
        # One Ray for all steps. Where it is started here it must also have the CPUs for training.
        with shared(config.cluster, workers.count * workers.cpus):
            loop = _Loop(config, watch, on_measurement)
            rounds = loop.rounds
            # Round 0 is one of `rounds`, but no round of training.
            while len(rounds) <= config.rounds and not rounds[-1].reward_hacked:
                loop.run_round()
                # After each round: an interrupted run leaves the choice among the rounds it has.
                _store(folder, rounds)
    stop_reason: StopReason = "reward_hacked" if rounds[-1].reward_hacked else "completed"
    return ImproveResult(rounds, choose(rounds), stop_reason)


def _store(folder: Folder, rounds: Sequence[Round]) -> None:
    chosen = choose(rounds)
    figures = {"rounds": [asdict(r) for r in rounds], "chosen": chosen.number}
    folder.write(ROUNDS, json.dumps(figures, indent=2).encode())
    folder.write(CHOSEN, overrides_yaml({"reward.guide": chosen.guide}).encode())


class _Loop:
    """The rounds so far. Round 0 is an evaluation alone, with the judge as its own guide."""

    def __init__(self, config: ImproveConfig, watch: Watch, on_measurement: OnMeasurement) -> None:
        self._config = config
        self._watch, self._on_measurement = watch, on_measurement
        self._last = self._evaluate(0, None)
        self.rounds = [
            Round(
                number=0,
                guide=None,
                reward=self._last.reward,
                accuracy=self._last.accuracy,
                calls=self._last.calls,
                top1=None,
                counterfactuals=0,
            )
        ]

    def run_round(self) -> None:
        """Search with the last guide, explore, train the next guide, evaluate it."""
        number, guide = len(self.rounds), self.rounds[-1].guide
        # These traces are data too: `training.revisions` trains on their revisions.
        self._generate(steps.search(self._config, number, guide))
        exploration = steps.explore(self._config, number, guide)
        with self._watch(exploration.run_dir) as watcher:
            _require_rows(counterfactuals(exploration, watcher), exploration.run_dir)
        training = steps.train(self._config, number, guide)
        with self._watch(training.run_dir):
            card = train_guide(training, self._on_measurement).card
        if number == 1 and card["judge_gradient"]:
            # Round 0 trains nothing; the agreement of its guide, the judge, is measured here.
            self.rounds[0] = replace(self.rounds[0], top1=card["judge_gradient"]["top1"])
        trained = f"{training.run_dir}/guide"
        before, self._last = self._last, self._evaluate(number, trained)
        # Over the round before and not over round 0: hacking must be noticed when it begins.
        reward_gain, accuracy_gain = self._last.gains(before)
        self.rounds.append(
            Round(
                number=number,
                guide=trained,
                reward=self._last.reward,
                accuracy=self._last.accuracy,
                calls=self._last.calls,
                top1=card["metrics"]["top1"],
                counterfactuals=card["data"]["counterfactuals"],
                reward_gain=reward_gain,
                accuracy_gain=accuracy_gain,
                reward_hacked=reward_hacked(reward_gain, accuracy_gain),
            )
        )

    def _evaluate(self, number: int, guide: str | None) -> Evaluation:
        settings = steps.evaluate(self._config, number, guide)
        self._generate(settings)
        results: dict[str, PromptResult] = {}
        calls = 0
        # From the committed rows and not from the run: a resumed round is evaluated alike.
        store = open_store(generate_plan(settings))
        for table in store.rows(("prompt_id", "reward", "correct", "cost", "error")):
            for row in table.to_pylist():
                if row["error"] is None:
                    correct = None if row["correct"] is None else float(row["correct"])
                    results[row["prompt_id"]] = PromptResult(row["reward"], correct)
                    calls += row["cost"]["paper_calls"]
        return Evaluation(results, calls / len(results))

    def _generate(self, settings: GenerateConfig) -> None:
        with self._watch(settings.run_dir) as watcher:
            _require_rows(generate(settings, watcher), settings.run_dir)


def _require_rows(outcome: RunOutcome, run_dir: str) -> None:
    """Raises RunError where a step has given up or has no rows for the next step."""
    if outcome.aborted or not outcome.finished:
        raise RunError(
            f"{run_dir}: too many dead letters to continue; `nabla status {run_dir}` counts them"
        )
