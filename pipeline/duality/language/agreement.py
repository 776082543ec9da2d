"""`decoding.method: mh` against importance sampling of pi*, on the embedded LM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nabla_core import MH, mh
from nabla_core.engines.base import Engines
from nabla_core.types import Trace
from pipeline.duality.language.arms import drawn, sampler
from pipeline.duality.language.estimators import LEAST_ESS, Optimum, mean_over_prompts
from pipeline.duality.language.plane import Plane
from pipeline.duality.language.policies import MAX_TOKENS, Laboratory, Sample

AGREES, SETTLED = 4.0, 3.0


def exact_sampler(
    plane: Plane,
    laboratory: Laboratory,
    engines: Engines,
    reference: Sample,
    betas: Sequence[float],
    *,
    chains: int,
    steps: int,
) -> None:
    """`decoding.method: mh` against importance sampling, on the prompts where that may speak.

    A positive check at the largest beta, where so many steps are enough: there the chains must
    have settled (E[r] after half of the steps and after all, of the same chains, within
    `SETTLED` standard errors) and agree. Smaller betas take more steps; how far their chains
    still move, and how far from pi* they are, is reported. The movement is told and not used
    to choose what is judged: it has too little power for that. Chains of 40 steps at
    beta 2 passed it (2.3 standard errors) and were 5.6 from importance sampling.
    """
    check = "E[r] against importance sampling, standard errors apart"
    first, wrong = betas[:2]
    samples: dict[float, Sample] = {}
    for beta in betas:
        method = partial(
            mh, config=MH(beta=beta, steps=steps), seed=plane.seed, max_tokens=MAX_TOKENS
        )
        samples[beta], traces = drawn(laboratory, engines, method, chains)
        arm = f"method mh, beta {beta:g}"
        sampler(plane, arm, reference, samples[beta])
        found = plane.optima[beta]
        usable = int(found.estimable.sum())
        plane.book.report("prompts compared with importance sampling", arm, plane.seed, usable)
        drift = drifted(traces)
        name = "E[r] after half of the steps and after all, standard errors apart"
        enter = plane.book.positive if beta == first else plane.book.report
        enter(name, arm, plane.seed, drift, SETTLED)
        if usable * 2 < len(found.ess):
            least = float(found.ess.min())
            plane.book.not_estimable(check, arm, plane.seed, least, LEAST_ESS)
            continue
        enter(check, arm, plane.seed, apart(samples[beta].reward, found), AGREES)
    truth = plane.optima[first]
    controls = {
        f"method mh, beta {wrong:g} taken for {first:g}": samples[wrong].reward,
        f"reference LM taken for pi*, beta {first:g}": reference.reward[:, :chains],
    }
    for arm, rewards in controls.items():
        plane.book.control(check, arm, plane.seed, apart(rewards, truth), AGREES)


def drifted(traces: list[list[Trace]]) -> float:
    """How far E[r] of chains moved in the second half of their steps, in standard errors of
    the paired difference, prompt by prompt."""
    moved = torch.tensor([[second_half(t) for t in row] for row in traces], dtype=torch.float64)
    change = mean_over_prompts(moved)
    return abs(change.value) / change.error if change.error else 0.0


def second_half(chain: Trace) -> float:
    """The reward of a chain's end minus that after half of its steps."""
    path = [
        r.reward_before if r.reward_after is None or not r.accepted else r.reward_after
        for r in chain.revisions
    ]
    return path[-1] - path[(len(path) - 1) // 2]


def apart(rewards: Tensor, found: Optimum) -> float:
    """|E_q[r] - E*[r]| over the estimable prompts, in standard errors of the difference.
    rewards `[P, S]`."""
    here = found.estimable
    rewards = rewards[here]
    difference = rewards.mean(1) - found.reward[here]
    variance = rewards.var(1) / rewards.size(1) + found.variance[here]
    return abs(float(difference.sum() / variance.sum().sqrt()))
