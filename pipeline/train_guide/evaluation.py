"""What is measured of a guide in training: agreement with held-out scores and the search it guides.

The judge's own gradient is measured too, as the baseline.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from nabla_core.embedded.weights import model_location
from nabla_core.engines.loading import as_guide, build_engines
from nabla_core.errors import ModelError
from nabla_core.guide_training.evaluation import Agreement, agreement, frozen, search
from nabla_core.guide_training.strength import Strength, strength
from nabla_core.guide_training.trainees import GradientTrainee, guide_encoder, open_trainee
from nabla_core.model_config import Runtime
from nabla_core.models.pretrained import load_tokenizer
from pipeline.errors import RunError
from pipeline.grading.graders import grader
from pipeline.inputs.prompts import read as read_prompts
from pipeline.train_guide.setup import encode
from pipeline.train_guide.state import TrainingState
from pipeline.training.subsample import subsample

# Of held-out responses, to measure the divergence of the guided law on: its standard error is some
# per cent then.
_POSITIONS = 1024


def calibration(state: TrainingState) -> float:
    """The factor for the output layer: the slope of true on predicted advantages, over examples
    that were trained on. 1 without `target.calibrate`, or where the slope is not positive."""
    if not state.config.target.calibrate:
        return 1.0
    examples = subsample(state.train, state.config.validation.held_out, state.config.seed)
    size = state.config.optimise.micro_batch
    state.meter.measurements += state.cost.predictions(examples)
    with frozen(state.trainee.model):
        slope = agreement(state.trainee, examples, margin=0.0, size=size).slope
    return slope if slope > 0 else 1.0


def measure(state: TrainingState) -> dict[str, Any]:
    """Agreement with held-out scores and the search on validation prompts, for the guide as it is;
    `selection_score` is the figure that checkpoints are compared by. Calibrate before."""
    config = state.config.validation
    # Differences below the temperature hardly count in the loss, so they are no test of a guide.
    margin = state.config.target.temperature
    size = state.config.optimise.micro_batch
    runtime = Runtime(max_batch=config.max_batch)
    grade = grader(config.verify)
    with frozen(state.trainee.model):
        agreed = agreement(state.trainee, state.held_out, margin=margin, size=size)
        guide = state.trainee.guide(state.lm, state.config.reward.min_coverage, runtime)
        engines = build_engines(state.lm, state.judge, guide, runtime, state.config.reward.tools)
        found = strength(
            as_guide(guide, state.lm, runtime),
            engines,
            state.held_out_records,
            kl=config.kl,
            positions=_POSITIONS,
        )
        result = search(
            engines,
            [item.prompt for item in read_prompts(config.prompts)],
            config.nabla,
            lambda prompt, text: grade(prompt, text).correct,
            max_tokens=config.max_tokens,
            in_flight=3 * config.max_batch,  # prompts wait for different kinds of requests
        )
    state.meter.measurements += state.cost.predictions(state.held_out) + result.flops
    metrics = {"step": state.step, **agreed.as_dict(), **asdict(result), **_suggestion(found)}
    if metrics[config.metric] is None:
        raise RunError("validation.metric=accuracy: no validation prompt has an answer")
    return metrics | {"selection_score": metrics[config.metric]}


def _suggestion(found: Strength | None) -> dict[str, float | None]:
    """The suggested beta, and what it is predicted to gain a token, to three digits: positions are
    a sample."""
    if found is None:
        return {"suggested_beta": None, "suggested_gain": None}
    beta, gain = (float(f"{value:.3g}") for value in (found.beta, found.gain))
    return {"suggested_beta": beta, "suggested_gain": gain}


def judge_agreement(state: TrainingState) -> Agreement | None:
    """The agreement of the judge's own gradient with held-out scores; None where it cannot be
    loaded as a gradient guide or reads none of the responses."""
    judge = model_location(state.config.reward.required_judge, "judge")
    revision = state.config.reward.judge_revision
    optimise = state.config.optimise
    try:
        tokenizer = load_tokenizer(judge, revision)
        trainee = open_trainee("gradient", judge, tokenizer, optimise, revision=revision, seed=0)
    except ModelError:
        return None
    assert isinstance(trainee, GradientTrainee)
    trainee.model.to(state.trainee.model.device)
    reward = state.config.reward
    encoder = guide_encoder(
        "gradient", trainee, tokenizer, state.lm, reward.min_coverage, reward.tools
    )
    floor = state.config.data.log_probability_floor
    examples = list(encode(encoder, state.held_out_records, floor, Counter()))
    if not examples:
        return None
    margin = state.config.target.temperature
    with frozen(trainee.model):
        return agreement(trainee, examples, margin=margin, size=optimise.micro_batch)
