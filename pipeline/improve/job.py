"""The loop of `jobs.improve`: generate, verify, train on that, and generate again.

    run_dir/round-N/...  the steps of a round (see `steps`)
    run_dir/rounds.json  the figures of all rounds
    run_dir/chosen.yaml  the models and the method to use, as a config file of other jobs

Each step is a run of another job and resumes as that job does, so the same command continues
where it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nabla_core.model_config import LM
from pipeline.cluster.connection import shared
from pipeline.config import overrides_yaml
from pipeline.improve.config import ImproveConfig
from pipeline.improve.loop import Loop, StopReason
from pipeline.improve.ready import OWNER, check, resolved
from pipeline.improve.rounds import Round, choose
from pipeline.improve.runner import Observer
from pipeline.improve.status import ROUNDS
from pipeline.run.config import generation_settings
from pipeline.store.checks import config_check
from pipeline.store.files import Folder
from pipeline.store.run_folder import open_folder, translate_os_errors

CHOSEN = "chosen.yaml"


@dataclass(frozen=True)
class ImproveResult:
    """All rounds, the one whose models are to be used, and why there are no more rounds."""

    rounds: Sequence[Round]
    chosen: Round
    stop_reason: StopReason


def improve(config: ImproveConfig, observer: Observer) -> ImproveResult:
    """Run all rounds, or continue them.

    Raises PipelineError and ModelError. After KeyboardInterrupt the folder can be resumed.
    """
    config, _ = resolved(config)
    check(config)  # before the folder is opened, so that a refused config leaves no trace
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        config_check.check_config(folder, config, OWNER)
        # One Ray for all steps. Where it is started here it must also have the CPUs for training.
        with shared(config.cluster, _training_cpus(config)):
            loop = Loop(config, observer)
            while loop.stop_reason is None:
                loop.run_round()
                # After each round: an interrupted run leaves the choice among the rounds it has.
                _store(folder, config, loop)
            _store(folder, config, loop)
    return ImproveResult(loop.rounds, choose(loop.rounds), loop.stop_reason)


def _training_cpus(config: ImproveConfig) -> float:
    sections = {
        "distill": config.distill.workers,
        "judge": config.judge.workers,
        "guide": config.training.workers,
    }
    return max(w.count * w.cpus for step, w in sections.items() if step in config.steps)


def _store(folder: Folder, config: ImproveConfig, loop: Loop) -> None:
    chosen = choose(loop.rounds)
    figures = {
        "rounds": [asdict(r) for r in loop.rounds],
        "chosen": chosen.number,
        "stop_reason": loop.stop_reason,
    }
    folder.write(ROUNDS, json.dumps(figures, indent=2).encode())
    folder.write(CHOSEN, overrides_yaml(chosen_settings(config, chosen)).encode())


def chosen_settings(config: ImproveConfig, chosen: Round) -> dict[str, Any]:
    """The settings of other jobs with which the models of a round are used."""
    lm, reward, decoding = config.lm, config.reward, config.decoding
    # A model that the config names keeps its revision; one that a round has trained has none.
    if chosen.lm is not None and chosen.lm != lm.path:
        lm = LM(chosen.lm)
    if chosen.judge is not None and chosen.judge != reward.judge:
        reward = replace(reward, judge=chosen.judge, judge_revision=None)
    if chosen.guide != reward.guide:
        reward = replace(reward, guide=chosen.guide, guide_revision=None)
    if chosen.way == "greedy":
        decoding = replace(decoding, method="greedy")
    return generation_settings(lm, reward, decoding)
