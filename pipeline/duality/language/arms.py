"""Arms of part embedded: what is measured of each, and how its responses are drawn."""

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
from pipeline.duality.language.estimators import (
    Bounds,
    Estimate,
    answer_kl,
    best_of,
    mean_over_prompts,
)
from pipeline.duality.language.plane import Plane
from pipeline.duality.language.policies import MAX_TOKENS, Laboratory, Sample, padded
from pipeline.duality.tokens.policies import best_of_n_bound

ENGINE_BATCH = 256


def density(plane: Plane, arm: str, sample: Sample) -> None:
    """An arm that knows its own log-probabilities."""
    assert sample.log_q is not None
    divergence = mean_over_prompts(sample.log_q - sample.log_ref)
    plane.density(arm, divergence, numbers(sample), gap=arm.startswith("RLOO"))


def sampler(plane: Plane, arm: str, reference: Sample, sample: Sample) -> None:
    """An arm without a density."""
    if sample.answer.size(1) > 1:
        answers = answer_kl(sample.answer, reference.answer)
        plane.book.report("KL of the answers", arm, plane.seed, answers.value)
    plane.sampler(arm, sample.reward, sample.log_ref, numbers(sample))


def best_of_n(plane: Plane, reference: Sample, n: int) -> None:
    """Best of n of the reference, from the reference samples; KL at most log n - (n-1)/n."""

    def expected(values: Tensor) -> Estimate:
        halves = [
            best_of(values[:, part], reference.reward[:, part], n).mean()
            for part in torch.arange(values.size(1)).chunk(8)
        ]
        spread = torch.stack(halves).std() / math.sqrt(8)
        return Estimate(float(best_of(values, reference.reward, n).mean()), float(spread))

    columns = {
        "E[r]": reference.reward,
        "accuracy": reference.right,
        "every step right": reference.traces,
        "E[log p_ref]": reference.log_ref,
    }
    numbers = {check: expected(values.double()) for check, values in columns.items()}
    low = plane.variational_bound(numbers["E[r]"])
    plane.between(f"best of {n}", Bounds(low, best_of_n_bound(n)), numbers)


def drawn(
    laboratory: Laboratory, engines: Engines, method: Callable[[Prompt], Flow], count: int
) -> tuple[Sample, list[list[Trace]]]:
    """`count` responses of a method of the product to every prompt, and their traces."""
    index = {p.id: i for i, p in enumerate(laboratory.prompts)}
    flows = (method(replace(p, sample=s)) for p in laboratory.prompts for s in range(count))
    found: dict[tuple[int, int], Trace] = {}
    for trace in drive(flows, engines, in_flight=3 * ENGINE_BATCH):
        found[index[trace.prompt_id], trace.sample] = trace
    traces = [[found[i, s] for s in range(count)] for i in range(len(index))]
    tokens = padded([trace.tokens for row in traces for trace in row])
    return laboratory.measured(tokens.reshape(len(index), count, MAX_TOKENS)), traces


def numbers(sample: Sample) -> dict[str, Estimate]:
    columns = {
        "E[r]": sample.reward,
        "accuracy": sample.right.double(),
        "every step right": sample.traces.double(),
        "E[log p_ref]": sample.log_ref,
    }
    return {check: mean_over_prompts(values) for check, values in columns.items()}
