"""`jobs.improve`: search, learn from where it went wrong, search again.

    run_dir/round-N/...  the steps of a round (see `round_settings`)
    run_dir/rounds.json  every round's figures
    run_dir/chosen.yaml  the guide to use

Every step is a run of another job and resumes as that job does, so the same command goes on
where it was interrupted. Rounds end early where judge and truth part (see `reward_hacked`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace

from pipeline.config import overrides_yaml
from pipeline.counterfactuals.job import counterfactuals
from pipeline.errors import ConfigError, RunError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.job import generate
from pipeline.generate.job import plan as generate_plan
from pipeline.improve import steps as round_settings
from pipeline.improve.config import ImproveConfig
from pipeline.improve.rounds import Measured, Round, choose, reward_hacked
from pipeline.inputs.prompts import content_key
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.cluster import connected
from pipeline.run.plan import RunOutcome, Watcher, open_store
from pipeline.store import config_check
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.train_guide.job import check_ready, train_guide
from pipeline.train_guide.progress import OnMeasurement

ROUNDS, CHOSEN = "rounds.json", "chosen.yaml"

Watch = Callable[[str], AbstractContextManager[Watcher]]


@dataclass(frozen=True)
class Improved:
    """All rounds, and the one whose guide is to be used."""

    rounds: Sequence[Round]
    chosen: Round


def improve(config: ImproveConfig, watch: Watch, on_measurement: OnMeasurement) -> Improved:
    """Run all rounds, or continue them.

    `watch(name)` is the watcher of the run called `name`; `on_measurement` is called with the
    measurements of guides in training.

    Raises PipelineError, ModelError; KeyboardInterrupt leaves a folder to resume.
    """
    workers = config.training.workers
    _check(config)
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        config_check.enter(folder, config)
        with connected(config.cluster, workers.count * workers.cpus):
            loop = _Loop(config, watch, on_measurement)
            rounds = loop.rounds
            while len(rounds) <= config.rounds and not rounds[-1].reward_hacked:
                loop.go_on()
                chosen = choose(rounds)
                told = {"rounds": [asdict(one) for one in rounds], "chosen": chosen.number}
                folder.write(ROUNDS, json.dumps(told, indent=2).encode())
                folder.write(CHOSEN, overrides_yaml({"reward.guide": chosen.guide}).encode())
    return Improved(rounds, choose(rounds))


def _check(config: ImproveConfig) -> None:
    """Raises what the last steps of a round would be refused for, before the first one."""
    try:
        round_settings.exploring(config, 1, None)
        round_settings.training(config, 1, None)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    check_ready(config.training.optimise, config.training.validation)
    _check_prompts(config)


def _check_prompts(config: ImproveConfig) -> None:
    """There are enough for all rounds, and none of them has more than one use."""
    wanted = config.rounds * (config.prompts.limit or 0)
    taken = list(read_prompts(replace(config.prompts, limit=wanted)))
    if len(taken) < wanted:
        raise ConfigError(
            f"prompts: {config.rounds} rounds of {config.prompts.limit} need {wanted}, and "
            f"{config.prompts.path} has {len(taken)} after the first {config.prompts.skip}"
        )
    used = {content_key(item.prompt): f"prompts ({item.prompt.id})" for item in taken}
    for name, asked in (
        ("eval_prompts", config.eval_prompts),
        ("training.validation.prompts", config.training.validation.prompts),
    ):
        there = {
            content_key(item.prompt): f"{name} ({item.prompt.id})" for item in read_prompts(asked)
        }
        if shared := used.keys() & there.keys():
            one = min(shared)
            raise ConfigError(
                f"{name}: {len(shared)} of its prompts are used elsewhere too, {there[one]} as "
                f"{used[one]}: what rounds learn from, are chosen by and measured on must differ"
            )
        used |= there


class _Loop:
    def __init__(self, config: ImproveConfig, watch: Watch, on_measurement: OnMeasurement) -> None:
        self._config = config
        self._watch, self._on_measurement = watch, on_measurement
        self._last = self._measure(0, None)
        one = self._last
        self.rounds = [Round(0, None, one.reward, one.accuracy, one.calls, None, 0)]

    def go_on(self) -> None:
        """One more round."""
        number, guide = len(self.rounds), self.rounds[-1].guide
        self._generate(round_settings.searching(self._config, number, guide))
        exploring = round_settings.exploring(self._config, number, guide)
        with self._watch(exploring.run_dir) as watcher:
            _insist(counterfactuals(exploring, watcher), exploring.run_dir)
        training = round_settings.training(self._config, number, guide)
        with self._watch(training.run_dir):
            card = train_guide(training, self._on_measurement).card
        if number == 1 and card["judge_gradient"]:
            self.rounds[0] = replace(self.rounds[0], top1=card["judge_gradient"]["top1"])
        path = f"{training.run_dir}/guide"
        before, self._last = self._last, self._measure(number, path)
        reward_gain, accuracy_gain = self._last.gains(before)
        self.rounds.append(
            Round(
                number,
                path,
                self._last.reward,
                self._last.accuracy,
                self._last.calls,
                card["metrics"]["top1"],
                card["data"]["counterfactuals"],
                reward_gain,
                accuracy_gain,
                reward_hacked(reward_gain, accuracy_gain),
            )
        )

    def _measure(self, number: int, guide: str | None) -> Measured:
        measuring = round_settings.measuring(self._config, number, guide)
        self._generate(measuring)
        scores: dict[str, tuple[float, float | None]] = {}
        calls = 0
        store = open_store(generate_plan(measuring))
        for table in store.rows(("prompt_id", "reward", "correct", "cost", "error")):
            for row in table.to_pylist():
                if row["error"] is None:
                    right = None if row["correct"] is None else float(row["correct"])
                    scores[row["prompt_id"]] = row["reward"], right
                    calls += row["cost"]["paper_calls"]
        return Measured(scores, calls / len(scores))

    def _generate(self, settings: GenerateConfig) -> None:
        with self._watch(settings.run_dir) as watcher:
            _insist(generate(settings, watcher), settings.run_dir)


def _insist(outcome: RunOutcome, run_dir: str) -> None:
    if outcome.aborted or not outcome.finished:
        raise RunError(f"{run_dir}: too many dead letters to go on with; its folder says which")
