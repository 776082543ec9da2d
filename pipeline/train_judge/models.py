"""The models that shape a judge: where they are. Nothing here imports torch or ray."""

from __future__ import annotations

import os

from nabla_core.embedded.weights import model_location
from pipeline.train_judge.config import TrainJudgeConfig

# A folder or hub id, and the branch, tag or commit of a hub model.
Source = tuple[str, str | None]


def start_of(config: TrainJudgeConfig) -> Source:
    """The model that the judge starts from."""
    start, judge = config.start, judge_of(config)
    if start.path == "lm":
        return lm_of(config)
    if start.path == "judge" and judge is not None:
        return judge
    return os.path.expanduser(start.path), start.revision


def lm_of(config: TrainJudgeConfig) -> Source:
    """The language model."""
    return model_location(config.lm.path, "lm"), config.lm.revision


def judge_of(config: TrainJudgeConfig) -> Source | None:
    """The last judge; None where this one is the first."""
    judge = config.reward.judge
    return None if judge is None else (model_location(judge, "judge"), config.reward.judge_revision)


def guide_of(config: TrainJudgeConfig) -> Source | None:
    """The guide of the search; None: the judge that is measured is its own guide."""
    guide = config.reward.guide
    return None if guide is None else (model_location(guide, "guide"), config.reward.guide_revision)


def sources(config: TrainJudgeConfig) -> dict[str, Source]:
    """All models that shape the judge or its choice, by role."""
    found = {"start": start_of(config), "lm": lm_of(config)}
    guide = guide_of(config) if config.validation.search else None
    others = {"judge": judge_of(config), "guide": guide}
    return found | {role: source for role, source in others.items() if source is not None}


def model_paths(config: TrainJudgeConfig) -> dict[str, str]:
    """Where the models are, by the key of the config that says so."""
    keys = {
        "start": "start.path",
        "lm": "lm.path",
        "judge": "reward.judge",
        "guide": "reward.guide",
    }
    paths = {keys[role]: path for role, (path, _) in sources(config).items()}
    if config.start.path in ("judge", "lm"):
        del paths["start.path"]  # named by its own key already
    return paths
