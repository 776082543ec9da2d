"""The models that shape a guide: where they are, and whether they are still those of the folder.

Nothing here imports torch or ray.
"""

from __future__ import annotations

import os

from nabla_core.embedded.weights import model_location
from pipeline.train_guide.config import TrainGuideConfig

# A folder or hub id, and the branch, tag or commit of a hub model.
Source = tuple[str, str | None]


def start_of(config: TrainGuideConfig) -> Source:
    """The model that the guide starts from."""
    sources = {"judge": judge_of(config), "lm": lm_of(config)}
    start = config.start
    return sources.get(start.path, (os.path.expanduser(start.path), start.revision))


def lm_of(config: TrainGuideConfig) -> Source:
    """The language model."""
    return model_location(config.lm.path, "lm"), config.lm.revision


def judge_of(config: TrainGuideConfig) -> Source:
    """The reward model that judges."""
    return model_location(config.reward.required_judge, "judge"), config.reward.judge_revision


def teacher_of(config: TrainGuideConfig) -> Source | None:
    """The head that labels every position, if there is one."""
    path = config.teacher.path
    return None if path is None else (os.path.expanduser(path), config.teacher.revision)


def sources(config: TrainGuideConfig) -> dict[str, Source]:
    """All models that shape the guide, by role as in `TrainingState.models`."""
    found = {"start": start_of(config), "lm": lm_of(config), "judge": judge_of(config)}
    teacher = teacher_of(config)
    return found if teacher is None else {**found, "teacher": teacher}


def model_paths(config: TrainGuideConfig) -> dict[str, str]:
    """Where the models are, by the key of the config that says so."""
    keys = {"start": "start.path", "lm": "lm.path", "judge": "reward.judge"}
    paths = {keys.get(role, "teacher.path"): path for role, (path, _) in sources(config).items()}
    if config.start.path in ("judge", "lm"):
        del paths["start.path"]  # named by its own key already
    return paths
