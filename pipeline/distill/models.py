"""The models of a distillation: where they are. Nothing here imports torch or ray."""

from __future__ import annotations

from nabla_core.embedded.weights import model_location
from pipeline.distill.config import DistillConfig

# A folder or hub id, and the branch, tag or commit of a hub model.
Source = tuple[str, str | None]


def student_of(config: DistillConfig) -> Source:
    """The base of the student."""
    return model_location(config.student.path, "lm"), config.student.revision


def judge_of(config: DistillConfig) -> Source | None:
    """The reward model that judges answers, if there is one."""
    judge = config.validation.judge
    if judge is None:
        return None
    return model_location(judge, "judge"), config.validation.judge_revision


def sources(config: DistillConfig) -> dict[str, Source]:
    """All models that shape the student, by role."""
    found = {"student": student_of(config)}
    judge = judge_of(config)
    return found if judge is None else {**found, "judge": judge}


def model_paths(config: DistillConfig) -> dict[str, str]:
    """Where the models are, by the key of the config that says so."""
    keys = {"student": "student.path", "judge": "validation.judge"}
    return {keys[role]: path for role, (path, _) in sources(config).items()}
