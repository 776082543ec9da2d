"""RL on the enumerated LM, and the fixed point of GRPO in closed form.

RLOO is written in plain torch and not with TRL: with the KL in the reward of a whole response
its fixed point is pi*_beta (T1), and its leave-one-out baseline is unbiased. TRL's GRPO has a
per-token KL in the loss, and its baseline, the group mean, contains the sample itself; its
fixed point is `grpo_fixed_point`, and `trl_grpo` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.duality.tokens.enumerable import STATES, EnumeratedModels, T, V, log_law

# Share of the steps over which the learning rate rises.
WARM_UP = 0.05
# Training starts at this beta (or at the final one, if that is larger) and anneals to the final
# one over the first half of the steps. The second half is RL at the final beta alone.
START_BETA = 4.0


def exact_gradient(
    models: EnumeratedModels, beta: float, *, steps: int, learning_rate: float
) -> Tensor:
    """The law `[S]` after gradient ascent on J itself: the sum over all responses, no samples.

    Beta is annealed (see `START_BETA`): at a small beta pi* has modes that the reference hardly
    visits, and ascent from the reference can stop before it reaches them. With seed 2 at beta
    .25 the gap was .33 after 600 steps at a fixed beta, and .004 after 1,200 with annealing.
    """
    reward, log_ref = models.problem.reward.float(), models.problem.log_ref.float()

    def loss(log_p: Tensor, beta: float) -> Tensor:
        return -(log_p.exp() * (reward - beta * (log_p - log_ref))).sum()

    return _train(models, loss, beta, steps, learning_rate)


def rloo(
    models: EnumeratedModels,
    beta: float,
    *,
    steps: int,
    learning_rate: float,
    batch: int,
    seed: int,
) -> Tensor:
    """The law `[S]` after REINFORCE with a leave-one-out baseline on r - beta log(p / p_ref).

    Beta is annealed as in `exact_gradient`.
    """
    reward, log_ref = models.problem.reward.float(), models.problem.log_ref.float()
    generator = torch.Generator().manual_seed(seed)

    def loss(log_p: Tensor, beta: float) -> Tensor:
        sample = log_p.detach().exp().multinomial(batch, replacement=True, generator=generator)
        regularised = reward[sample] - beta * (log_p.detach() - log_ref)[sample]
        # Leave-one-out: the mean of the other responses of the batch.
        baseline = (regularised.sum() - regularised) / (batch - 1)
        return -((regularised - baseline) * log_p[sample]).mean()

    return _train(models, loss, beta, steps, learning_rate)


def _train(
    models: EnumeratedModels,
    loss: Callable[[Tensor, float], Tensor],
    beta: float,
    steps: int,
    learning_rate: float,
) -> Tensor:
    policy = models.policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: _rate_factor(k / steps))
    for step in range(steps):
        optimizer.zero_grad()
        loss(log_law(policy), _annealed(step / steps, beta)).backward()
        optimizer.step()
        schedule.step()
    return law_of(policy)


def _rate_factor(progress: float) -> float:
    """Linear warm-up, then a cosine to 0. The first step has a tenth of the rate, not 0."""
    return min(progress / WARM_UP, 0.5 * (1 + math.cos(math.pi * progress))) if progress else 0.1


def _annealed(progress: float, beta: float) -> float:
    """Geometric from `START_BETA` to beta over the first half."""
    return beta * max(1.0, START_BETA / beta) ** max(0.0, 1 - 2 * progress)


@torch.no_grad()
def law_of(policy: Any) -> Tensor:
    """The policy's law `[S]`, float64."""
    # Renormalised: the sum of 4,096 float32 probabilities is 1 to six digits only.
    return torch.softmax(log_law(policy).double(), 0)


def grpo_fixed_point(models: EnumeratedModels, beta: float, group: int) -> Tensor:
    """The fixed point `[S]` of GRPO with a bias-corrected k3 penalty, by backward induction.

    The group mean contains the sample itself, which shrinks the advantage by (G - 1) / G. A
    token is penalised for its own log(p / p_ref) only, not for the KL of the tokens after it.
    So p(b | h) ~ p_ref(b | h) exp(Q(h, b) / beta'), with Q the expected reward (without the
    penalty) and beta' = beta G / (G - 1).
    """
    effective_beta = beta * group / (group - 1)
    # Expected reward of each prefix of t + 1 tokens, [V^(t+1)]; at first of whole responses.
    q = models.problem.reward
    log_p = torch.zeros(STATES, dtype=torch.float64)
    for t in reversed(range(T)):
        reference = models.conditionals[:: V ** (T - t), t]
        step = (reference + q.reshape(-1, V) / effective_beta).log_softmax(-1)
        log_p = log_p + step.flatten().repeat_interleave(STATES // step.numel())
        q = (step.exp() * q.reshape(-1, V)).sum(-1)
    return log_p.exp()
