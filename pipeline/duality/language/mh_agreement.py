"""`decoding.method: mh` against importance sampling of pi*, on the embedded LM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nabla_core import MH, mh
from nabla_core.engines.base import Engines
from nabla_core.types import Trace
from pipeline.duality import names
from pipeline.duality.language.arm_recorder import ArmRecorder
from pipeline.duality.language.arms import draw, record_sampler
from pipeline.duality.language.embedded_models import MAX_TOKENS, EmbeddedModels, Sample
from pipeline.duality.language.estimators import (
    REQUIRED_ESS,
    OptimumEstimate,
    mean_over_prompts,
)

# Thresholds, in standard errors.
MAX_ERROR, MAX_DRIFT = 4.0, 3.0


def check_mh(
    recorder: ArmRecorder,
    models: EmbeddedModels,
    engines: Engines,
    reference: Sample,
    betas: Sequence[float],
    *,
    chains: int,
    steps: int,
) -> None:
    """Compare method mh with importance sampling, on the prompts where that is estimable.

    A positive check at the largest beta, where so many steps are enough: there the chains must
    have converged (E[r] after half of the steps and after all, of the same chains, within
    `MAX_DRIFT` standard errors) and agree. Smaller betas need more steps; how far their chains
    still drift, and how far they are from pi*, is only reported. The drift is not used to
    choose what is judged, because it has too little power: chains of 40 steps at beta 2
    passed it (2.3 standard errors) and were 5.6 from importance sampling.
    """
    first, wrong = betas[:2]
    samples: dict[float, Sample] = {}
    for beta in betas:
        method = partial(
            mh, config=MH(beta=beta, steps=steps), seed=recorder.seed, max_tokens=MAX_TOKENS
        )
        samples[beta], traces = draw(models, engines, method, chains)
        arm = f"method mh, beta {beta:g}"
        record_sampler(recorder, arm, reference, samples[beta])
        add = recorder.results.positive if beta == first else recorder.results.report
        add(names.MH_DRIFT, arm, recorder.seed, drift(traces), MAX_DRIFT)
        optimum = recorder.optima[beta]
        estimable = int(optimum.estimable.sum())
        recorder.results.report(
            "prompts compared with importance sampling", arm, recorder.seed, estimable
        )
        # Fewer than half of the prompts: they would be the easy ones.
        if estimable * 2 < len(optimum.ess):
            ess = float(optimum.ess.min())
            recorder.results.not_estimable(names.MH_ERROR, arm, recorder.seed, ess, REQUIRED_ESS)
            continue
        error = standard_errors(samples[beta].reward, optimum)
        add(names.MH_ERROR, arm, recorder.seed, error, MAX_ERROR)
    # Controls: both must be farther away than the threshold, or it has no power.
    truth = recorder.optima[first]
    controls = {
        f"method mh, beta {wrong:g} taken for {first:g}": samples[wrong].reward,
        f"reference LM taken for pi*, beta {first:g}": reference.reward[:, :chains],
    }
    for arm, rewards in controls.items():
        error = standard_errors(rewards, truth)
        recorder.results.control(names.MH_ERROR, arm, recorder.seed, error, MAX_ERROR)


def drift(traces: list[list[Trace]]) -> float:
    """How far E[r] of chains moved in the second half of their steps, in standard errors of
    the paired difference. traces `[P][S]`."""
    changes = torch.tensor(
        [[second_half_change(t) for t in row] for row in traces], dtype=torch.float64
    )
    change = mean_over_prompts(changes)
    return abs(change.value) / change.error if change.error else 0.0


def second_half_change(chain: Trace) -> float:
    """The reward at a chain's end minus that after half of its steps."""
    # The reward after each proposal: the new one if it was accepted, otherwise the old one.
    path = [
        r.reward_before if r.reward_after is None or not r.accepted else r.reward_after
        for r in chain.revisions
    ]
    return path[-1] - path[(len(path) - 1) // 2]


def standard_errors(rewards: Tensor, optimum: OptimumEstimate) -> float:
    """|E_q[r] - E*[r]| over the estimable prompts, in standard errors of the difference.
    rewards `[P, S]`."""
    estimable = optimum.estimable
    rewards = rewards[estimable]
    # Both estimates are independent, so their variances add; prompts are fixed.
    difference = rewards.mean(1) - optimum.reward[estimable]
    variance = rewards.var(1) / rewards.size(1) + optimum.variance[estimable]
    return abs(float(difference.sum() / variance.sum().sqrt()))
