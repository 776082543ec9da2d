"""What a guide in training is worth: agreement with held-out scores, the search it guides, and
the judge's own gradient beside it. Knows nothing of Ray.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from nabla_core.embedded.weights import located
from nabla_core.engines.loading import build_engines
from nabla_core.errors import ModelError
from nabla_core.guide_training.evaluation import Agreement, agreement, frozen, search
from nabla_core.guide_training.trainees import GradientTrainee, guide_encoder, open_trainee
from nabla_core.model_config import Runtime
from nabla_core.models.pretrained import load_tokenizer
from pipeline.errors import RunError
from pipeline.grading.graders import grader
from pipeline.inputs.prompts import read as read_prompts
from pipeline.train_guide.training import TrainingState, examples, subsample


def calibration(state: TrainingState) -> float:
    """What the output layer is multiplied by; 1 where that makes no sense."""
    if not state.config.target.calibrate:
        return 1.0
    learned = subsample(state.train, state.config.validation.held_out, state.config.seed)
    with frozen(state.trainee.model):
        slope = agreement(
            state.trainee, learned, margin=0.0, size=state.config.optimise.micro_batch
        ).slope
    return slope if slope > 0 else 1.0


def measure(state: TrainingState) -> dict[str, Any]:
    """Agreement with held-out scores, and the search on validation prompts, of the guide as it
    stands (calibrate it first)."""
    config = state.config.validation
    margin = state.config.target.temperature
    found: dict[str, Any] = {"step": state.step}
    with frozen(state.trainee.model):
        size = state.config.optimise.micro_batch
        found |= agreement(state.trainee, state.held_out, margin=margin, size=size).as_dict()
        runtime = Runtime(max_batch=config.max_batch)
        guide = state.trainee.guide(state.lm, state.config.reward.min_coverage, runtime)
        engines = build_engines(state.lm, state.judge, guide, runtime)
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


def reference(state: TrainingState) -> Agreement | None:
    """The agreement of the judge's own gradient, where it reads as the guide does."""
    judge = located(state.config.reward.judge, "judge")
    revision = state.config.reward.judge_revision
    try:
        tokenizer = load_tokenizer(judge, revision)
        plain = open_trainee(
            "gradient", judge, tokenizer, state.config.optimise, revision=revision, seed=0
        )
    except ModelError:
        return None
    assert isinstance(plain, GradientTrainee)
    plain.model.to(state.trainee.model.device)
    encoder = guide_encoder(
        "gradient", plain, tokenizer, state.lm, state.config.reward.min_coverage
    )
    read = list(examples(encoder, state.apart, state.config.data.least, Counter()))
    with frozen(plain.model):
        if not read:
            return None
        margin, size = state.config.target.temperature, state.config.optimise.micro_batch
        return agreement(plain, read, margin=margin, size=size)
