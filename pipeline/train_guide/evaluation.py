"""What a guide in training is worth: agreement with held-out scores, the search it guides, and
the judge's own gradient beside it. Knows nothing of Ray.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from transformers import AutoTokenizer

from nabla_core.embedded.weights import located
from nabla_core.engines.loading import build_engines
from nabla_core.errors import ModelError
from nabla_core.guide_training.evaluation import Agreement, agreement, at_rest, search
from nabla_core.guide_training.trainees import GradientTrainee, lens, open_trainee
from nabla_core.model_config import Engine
from pipeline.errors import RunError
from pipeline.grading.graders import grader
from pipeline.inputs.prompts import read as read_prompts
from pipeline.train_guide.training import Course, examples, some


def calibration(course: Course) -> float:
    """What the output layer is multiplied by; 1 where that makes no sense."""
    if not course.config.target.calibrate:
        return 1.0
    learned = some(course.train, course.config.validation.held_out, course.config.seed)
    with at_rest(course.trainee.model):
        slope = agreement(
            course.trainee, learned, margin=0.0, size=course.config.optimise.micro_batch
        ).slope
    return slope if slope > 0 else 1.0


def measure(course: Course) -> dict[str, Any]:
    """Agreement with held-out scores, and the search on validation prompts, of the guide as it
    stands (calibrate it first)."""
    config = course.config.validation
    margin = course.config.target.temperature
    found: dict[str, Any] = {"step": course.step}
    with at_rest(course.trainee.model):
        size = course.config.optimise.micro_batch
        found |= agreement(course.trainee, course.held_out, margin=margin, size=size).as_dict()
        engine = Engine(max_batch=config.max_batch)
        guide = course.trainee.guide(course.lm, course.config.reward.min_coverage, engine)
        engines = build_engines(course.lm, course.judge, guide, engine)
        grade = grader(config.verify)
        searched = search(
            engines,
            [item.prompt for item in read_prompts(config.prompts)],
            config.nabla,
            lambda prompt, text: grade(prompt, text).correct,
            max_tokens=config.max_tokens,
            in_flight=3 * config.max_batch,
        )
    found |= asdict(searched)
    chosen = found[config.metric]
    if chosen is None:
        raise RunError("validation.metric=accuracy: no validation prompt has an answer")
    return found | {"chosen_by": chosen}


def reference(course: Course) -> Agreement | None:
    """The agreement of the judge's own gradient, where it reads as the guide does."""
    judge = located(course.config.reward.judge, "judge")
    revision = course.config.reward.judge_revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(judge, revision=revision)
        plain = open_trainee(
            "gradient", judge, tokenizer, course.config.optimise, revision=revision, seed=0
        )
    except ModelError:
        return None
    assert isinstance(plain, GradientTrainee)
    plain.model.to(course.trainee.model.device)
    eye = lens("gradient", plain, tokenizer, course.lm, course.config.reward.min_coverage)
    read = list(examples(eye, course.apart, course.config.data.least, Counter()))
    with at_rest(plain.model):
        if not read:
            return None
        margin, size = course.config.target.temperature, course.config.optimise.micro_batch
        return agreement(plain, read, margin=margin, size=size)
