"""`jobs.self_improve`: search, learn from where it went wrong, search again.

    run_dir/round-0/measured         the judge as its own guide, on the prompts measured
    run_dir/round-N/traces           the last guide at work on new prompts
    run_dir/round-N/counterfactuals  what else could have stood there: from the second round on
                                     where the guide sees a change or is not sure
    run_dir/round-N/guide            the next guide, trained on all that is there so far
    run_dir/round-N/measured         that guide, on the prompts measured
    run_dir/rounds.json              every round's figures; chosen.yaml, the guide to use

Every step is a run of another job and resumes as that job does, so the same command goes on
where it was interrupted. Rounds end early where judge and truth part (see `parted`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline import config_check
from pipeline.cluster import connected
from pipeline.config import GenerateConfig, overrides_yaml, to_dict
from pipeline.counterfactual_reader import Data
from pipeline.counterfactuals import CounterfactualsConfig, counterfactuals
from pipeline.errors import RunError, StoreError
from pipeline.files import Folder
from pipeline.generate import generate
from pipeline.generate import plan as generate_plan
from pipeline.guide_config import Start, TrainGuideConfig
from pipeline.plan import Outcome, Watcher, open_store
from pipeline.rounds import Measured, Round, choose, parted
from pipeline.self_improve_config import SelfImproveConfig
from pipeline.train_guide import train_guide

ROUNDS, CHOSEN = "rounds.json", "chosen.yaml"
SHAPING = (
    *("seed", "prompts", "measured", "lm", "reward", "verify", "decoding", "explore"),
    *("training.kind", "training.start", "training.anew", "training.revisions"),
    *("training.held_out", "training.least_log_probability", "training.target"),
    *("training.optimise", "training.validation", "engine.device", "engine.dtype"),
)

Watch = Callable[[str], AbstractContextManager[Watcher]]


@dataclass(frozen=True)
class Improved:
    """All rounds, and the one whose guide is to be used."""

    rounds: Sequence[Round]
    chosen: Round


def self_improve(config: SelfImproveConfig, watch: Watch) -> Improved:
    """Run all rounds, or go on with them; `watch(name)` gives each run's watcher.

    Raises PipelineError, ModelError; KeyboardInterrupt leaves a folder to resume.
    """
    try:
        folder = Folder(config.run_dir)
        config_check.enter(folder, to_dict(config), SHAPING)
    except (OSError, ValueError, ImportError) as error:
        raise StoreError(f"run folder {config.run_dir}: {error}") from error
    with connected(config.cluster):
        loop = _Loop(config, watch)
        rounds = loop.rounds
        while len(rounds) <= config.rounds and not rounds[-1].parted:
            loop.go_on()
            told = {"rounds": [asdict(one) for one in rounds], "chosen": choose(rounds).number}
            folder.write(ROUNDS, json.dumps(told, indent=2).encode())
    chosen = choose(rounds)
    folder.write(CHOSEN, overrides_yaml({"reward.guide": chosen.guide}).encode())
    return Improved(rounds, chosen)


class _Loop:
    def __init__(self, config: SelfImproveConfig, watch: Watch) -> None:
        self._config = config
        self._watch = watch
        self._sources: dict[str, list[str]] = {"counterfactuals": [], "traces": []}
        self._last = self._measure(0, None)
        one = self._last
        self.rounds = [Round(0, None, one.reward, one.accuracy, one.calls, None, 0)]

    def go_on(self) -> None:
        """One more round."""
        number, guide = len(self.rounds), self.rounds[-1].guide
        self._collect(number, guide)
        card = self._train(number, guide)
        if number == 1 and card["judge_gradient"]:
            self.rounds[0] = replace(self.rounds[0], top1=card["judge_gradient"]["top1"])
        path = f"{self._path(number, 'guide')}/guide"
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
                parted(reward_gain, accuracy_gain),
            )
        )

    def _collect(self, number: int, guide: str | None) -> None:
        """The guide at work on the round's prompts, and counterfactuals of them."""
        config = self._config
        size = config.prompts.limit or 0
        prompts = replace(config.prompts, skip=config.prompts.skip + (number - 1) * size)
        reward = replace(config.reward, guide=guide)
        traces = self._path(number, "traces")
        self._generate(traces, replace(self._searching(traces, guide), prompts=prompts))
        explored = self._path(number, "counterfactuals")
        explore = replace(config.explore, choose="guide") if guide else config.explore
        with self._watch(explored) as watcher:
            outcome = counterfactuals(
                CounterfactualsConfig(
                    run_dir=explored,
                    seed=config.seed,
                    max_tokens=config.decoding.max_tokens,
                    prompts=prompts,
                    lm=config.lm,
                    reward=reward,
                    explore=explore,
                    engine=config.engine,
                    verify=config.verify,
                    cluster=config.cluster,
                    store=config.store,
                ),
                watcher,
            )
        _insist(outcome, explored)
        self._sources["counterfactuals"].append(explored)
        self._sources["traces"].append(traces)

    def _train(self, number: int, guide: str | None) -> dict[str, Any]:
        config, training = self._config, self._config.training
        run_dir = self._path(number, "guide")
        traces = self._sources["traces"] if training.revisions else []
        with self._watch(run_dir):
            trained = train_guide(
                TrainGuideConfig(
                    data=Data(
                        tuple(self._sources["counterfactuals"]),
                        tuple(traces),
                        held_out=training.held_out,
                        least_log_probability=training.least_log_probability,
                    ),
                    run_dir=run_dir,
                    kind=training.kind,
                    seed=config.seed + number,
                    start=training.start if training.anew or not guide else Start(guide),
                    lm=config.lm,
                    reward=config.reward,
                    target=training.target,
                    optimise=training.optimise,
                    validation=training.validation,
                    workers=training.workers,
                )
            )
        return trained.card

    def _measure(self, number: int, guide: str | None) -> Measured:
        run_dir = self._path(number, "measured")
        settings = replace(self._searching(run_dir, guide), prompts=self._config.measured)
        self._generate(run_dir, settings)
        scores: dict[str, tuple[float, float | None]] = {}
        calls = 0
        store = open_store(generate_plan(settings))
        for table in store.rows(("prompt_id", "reward", "correct", "cost", "error")):
            for row in table.to_pylist():
                if row["error"] is None:
                    right = None if row["correct"] is None else float(row["correct"])
                    scores[row["prompt_id"]] = row["reward"], right
                    calls += row["cost"]["paper_calls"]
        return Measured(scores, calls / len(scores))

    def _searching(self, run_dir: str, guide: str | None) -> GenerateConfig:
        config = self._config
        return GenerateConfig(
            run_dir=run_dir,
            seed=config.seed,
            lm=config.lm,
            reward=replace(config.reward, guide=guide),
            decoding=config.decoding,
            engine=config.engine,
            verify=config.verify,
            cluster=config.cluster,
            store=config.store,
        )

    def _generate(self, name: str, settings: GenerateConfig) -> None:
        with self._watch(name) as watcher:
            _insist(generate(settings, watcher), name)

    def _path(self, number: int, what: str) -> str:
        return f"{self._config.run_dir}/round-{number}/{what}"


def _insist(outcome: Outcome, run_dir: str) -> None:
    if outcome.hopeless or not outcome.finished:
        raise RunError(f"{run_dir}: too many dead letters to go on with; its folder says which")
