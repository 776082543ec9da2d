"""RL on the enumerable LM, and what else has a law in closed form.

RLOO is plain torch here, not TRL: with the KL in the reward of a whole response its fixed
point is pi*_beta, and the leave-one-out baseline is unbiased. TRL's GRPO puts a per-token KL
in the loss and a group mean that contains the sample itself; where that leads is
`grpo_fixed_point`, and `trl_grpo` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.duality.frontier import Target
from pipeline.duality.tokens.enumerable import STATES, T, V, World, log_law

WARM = 0.05
# Training starts at this beta (or at the one asked for, if larger) and cools down to the one
# asked for over the first half; the second half is RL at that beta and nothing else.
HOT = 4.0


def exact_gradient(world: World, beta: float, *, steps: int, rate: float) -> Tensor:
    """The law `[S]` after ascending J itself: the whole sum, no samples.

    Cooled (see `HOT`): at a small beta pi* has modes that the reference hardly visits, and
    ascent from there can rest between them. In world 2 at beta .25 the gap was .33 after 600
    steps at a fixed beta, and .004 after 1,200 with cooling.
    """
    reward, log_ref = world.target.reward.float(), world.target.log_ref.float()

    def loss(log_p: Tensor, beta: float) -> Tensor:
        return -(log_p.exp() * (reward - beta * (log_p - log_ref))).sum()

    return _train(world, loss, beta, steps, rate)


def rloo(world: World, beta: float, *, steps: int, rate: float, batch: int, seed: int) -> Tensor:
    """The law after REINFORCE with a leave-one-out baseline on r - beta log(p / p_ref), cooled
    as `exact_gradient` is."""
    reward, log_ref = world.target.reward.float(), world.target.log_ref.float()
    generator = torch.Generator().manual_seed(seed)

    def loss(log_p: Tensor, beta: float) -> Tensor:
        drawn = log_p.detach().exp().multinomial(batch, replacement=True, generator=generator)
        regularised = reward[drawn] - beta * (log_p.detach() - log_ref)[drawn]
        others = (regularised.sum() - regularised) / (batch - 1)
        return -((regularised - others) * log_p[drawn]).mean()

    return _train(world, loss, beta, steps, rate)


def _train(
    world: World, loss: Callable[[Tensor, float], Tensor], beta: float, steps: int, rate: float
) -> Tensor:
    policy = world.policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: _shape(k / steps))
    for step in range(steps):
        optimizer.zero_grad()
        loss(log_law(policy), _cooled(step / steps, beta)).backward()
        optimizer.step()
        schedule.step()
    return law_of(policy)


def _shape(progress: float) -> float:
    """A short rise, then a cosine to nothing."""
    return min(progress / WARM, 0.5 * (1 + math.cos(math.pi * progress))) if progress else 0.1


def _cooled(progress: float, beta: float) -> float:
    return beta * max(1.0, HOT / beta) ** max(0.0, 1 - 2 * progress)


@torch.no_grad()
def law_of(policy: Any) -> Tensor:
    """The policy's law `[S]`, float64."""
    return torch.softmax(log_law(policy).double(), 0)


def best_of_n(target: Target, n: int) -> Tensor:
    """The exact law of the best of n draws of the reference; of equals the first is kept."""
    order = target.reward.argsort(stable=True)
    mass, reward = target.reference[order], target.reward[order]
    upto = mass.cumsum(0).clamp(max=1.0)
    _, group = torch.unique_consecutive(reward, return_inverse=True)
    ends = torch.zeros(int(group[-1]) + 1, dtype=mass.dtype).scatter_reduce(
        0, group, upto, "amax", include_self=False
    )
    won = torch.diff(ends**n, prepend=torch.zeros(1, dtype=mass.dtype))
    shared = torch.zeros_like(won).index_add(0, group, mass)
    law = torch.empty_like(mass)
    law[order] = won[group] * mass / shared[group]
    return law


def best_of_n_bound(n: int) -> float:
    """KL(best of n || reference) is at most log n - (n - 1) / n."""
    return math.log(n) - (n - 1) / n


def grpo_fixed_point(world: World, beta: float, group: int) -> Tensor:
    """Where GRPO with a bias-corrected k3 penalty comes to rest, by backward induction.

    The group mean contains the sample itself, which shrinks the advantage by (G - 1) / G;
    and a token is penalised for its own log(p / p_ref) alone, not for the KL of the tokens
    it leads to. So p(b | h) ~ p_ref(b | h) exp(Q(h, b) / beta'), with Q the expected reward
    and beta' = beta G / (G - 1).
    """
    raised = beta * group / (group - 1)
    q = world.target.reward
    log_p = torch.zeros(STATES, dtype=torch.float64)
    for t in reversed(range(T)):
        ahead = world.conditionals[:: V ** (T - t), t]
        step = (ahead + q.reshape(-1, V) / raised).log_softmax(-1)
        log_p = log_p + step.flatten().repeat_interleave(STATES // step.numel())
        q = (step.exp() * q.reshape(-1, V)).sum(-1)
    return log_p.exp()
