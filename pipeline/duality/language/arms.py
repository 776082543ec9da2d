"""The arms of part language: how their responses are drawn, and what is measured of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from nabla_core import Prompt, drive
from nabla_core.engines.base import Engines
from nabla_core.requests import Flow
from nabla_core.types import Trace
from pipeline.duality import names
from pipeline.duality.best_of_n import best_of_n_kl_bound
from pipeline.duality.language.arm_recorder import ArmRecorder
from pipeline.duality.language.embedded_models import (
    MAX_TOKENS,
    EmbeddedModels,
    Sample,
    padded,
)
from pipeline.duality.language.estimators import (
    Bounds,
    Estimate,
    answer_kl,
    best_of,
    mean_over_prompts,
)

ENGINE_BATCH = 256
# Groups of reference samples whose spread gives the standard error of best-of-N.
GROUPS = 8


def record_policy(recorder: ArmRecorder, arm: str, sample: Sample) -> None:
    """Record an arm that has log-probabilities; the gap only of RL policies."""
    assert sample.log_q is not None
    divergence = mean_over_prompts(sample.log_q - sample.log_ref)
    recorder.with_density(arm, divergence, estimates(sample), gap=arm.startswith("RLOO"))


def record_sampler(recorder: ArmRecorder, arm: str, reference: Sample, sample: Sample) -> None:
    """Record an arm without log-probabilities."""
    # From one response a prompt the law of its answers cannot be estimated.
    if sample.answer.size(1) > 1:
        divergence = answer_kl(sample.answer, reference.answer)
        recorder.results.report(names.ANSWER_KL, arm, recorder.seed, divergence.value)
    recorder.without_density(arm, sample.reward, sample.log_ref, estimates(sample))


def record_best_of_n(recorder: ArmRecorder, reference: Sample, n: int) -> None:
    """Record best-of-N of the reference, computed from the reference's responses.

    Its KL is at most log n - (n - 1) / n.
    """

    def expected(values: Tensor) -> Estimate:
        groups = [
            best_of(values[:, part], reference.reward[:, part], n).mean()
            for part in torch.arange(values.size(1)).chunk(GROUPS)
        ]
        error = torch.stack(groups).std() / math.sqrt(GROUPS)
        return Estimate(float(best_of(values, reference.reward, n).mean()), float(error))

    numbers = {check: expected(values) for check, values in _columns(reference).items()}
    low = recorder.variational_bound(numbers[names.REWARD])
    recorder.with_bounds(f"best of {n}", Bounds(low, best_of_n_kl_bound(n)), numbers)


def draw(
    models: EmbeddedModels, engines: Engines, method: Callable[[Prompt], Flow], count: int
) -> tuple[Sample, list[list[Trace]]]:
    """`count` responses of a method of the library to every prompt, and their traces `[P][S]`."""
    index = {p.id: i for i, p in enumerate(models.prompts)}
    flows = (method(replace(p, sample=s)) for p in models.prompts for s in range(count))
    # `drive` gives traces in the order in which they finish.
    by_prompt: dict[tuple[int, int], Trace] = {}
    for trace in drive(flows, engines, in_flight=3 * ENGINE_BATCH):
        by_prompt[index[trace.prompt_id], trace.sample] = trace
    traces = [[by_prompt[i, s] for s in range(count)] for i in range(len(index))]
    tokens = padded([trace.tokens for row in traces for trace in row])
    return models.evaluate(tokens.reshape(len(index), count, MAX_TOKENS)), traces


def estimates(sample: Sample) -> dict[str, Estimate]:
    """Means over prompts of reward, accuracy and log-likelihood, by the name of the check."""
    return {check: mean_over_prompts(values) for check, values in _columns(sample).items()}


def _columns(sample: Sample) -> dict[str, Tensor]:
    return {
        names.REWARD: sample.reward,
        names.ACCURACY: sample.correct.double(),
        names.ALL_STEPS: sample.all_steps_correct.double(),
        names.LOG_REF: sample.log_ref,
    }
