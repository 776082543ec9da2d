"""Markov kernels on enumerated responses, as whole float64 matrices `[S, S]` (from, to).

T5: on tokens the analogue of noisy gradient descent is a chain that is reversible with
respect to pi*_beta. Metropolis correction makes any proposal so; without it none here is.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from pipeline.duality.frontier import kl
from pipeline.duality.tokens.enumerable import STATES, T, V, World, digits


def suffix_resampling(world: World, beta: float, *, metropolis: bool = True) -> Tensor:
    """Cut at a uniform position, draw the rest from the LM, accept by the reward's change.

    The proposal is reversible with respect to p_ref, so `min(1, exp((r' - r) / beta))` alone
    corrects it to pi*_beta (responses all have the same length here).
    """
    proposal = torch.zeros(STATES, STATES, dtype=torch.float64)
    mass = world.target.reference
    for cut in range(T):
        blocks = V**cut
        tails = mass.reshape(blocks, -1)
        tails = tails / tails.sum(1, keepdim=True)
        square = proposal.reshape(blocks, STATES // blocks, blocks, STATES // blocks)
        same = torch.arange(blocks)
        square[same, :, same, :] += tails[:, None, :] / T
    if not metropolis:
        return proposal
    reward = world.target.reward / beta
    proposal *= (reward[None, :] - reward[:, None]).clamp(max=0).exp()
    return _resting(proposal)


def discrete_langevin(
    world: World, beta: float, *, step: float = 2.0, metropolis: bool = True
) -> Tensor:
    """The discrete Langevin proposal (Zhang et al., ICML 2022): every token at once, from

        softmax_b(1/2 <f_i, e_b - e_{y_i}> - |e_b - e_{y_i}|^2 / (2 step)),

    f the gradient of r / beta + log p_ref with respect to the one-hots.
    """
    rows = world.reward_rows / beta + world.likelihood_rows
    y = digits()
    score = (rows - rows.gather(-1, y[..., None])) / 2 - 1 / step
    score.scatter_(-1, y[..., None], 0.0)
    log_q = score.log_softmax(-1)
    joint = log_q[:, 0]
    for position in range(1, T):
        joint = (joint[:, :, None] + log_q[:, position, None, :]).flatten(1)
    if not metropolis:
        return joint.exp()
    energy = world.target.log_ref + world.target.reward / beta
    accept = joint.T - joint
    accept += energy[None, :] - energy[:, None]
    return _resting(joint.add_(accept.clamp_(max=0)).exp_())


def _resting(moves: Tensor) -> Tensor:
    """Rejected mass stays where it is. Changes `moves`."""
    moves.fill_diagonal_(0.0)
    moves.diagonal().copy_(1 - moves.sum(1))
    return moves


def stationarity(kernel: Tensor, law: Tensor) -> float:
    """||law P - law||_1: 0 where the law is the kernel's own."""
    return float((law @ kernel - law).abs().sum())


def follow(kernel: Tensor, start: Tensor, goal: Tensor, steps: int) -> tuple[Tensor, list[float]]:
    """The law after `steps`, and KL(law || goal) before each step and at the end."""
    law, distances = start, [kl(start, goal)]
    for _ in range(steps):
        law = law @ kernel
        distances.append(kl(law, goal))
    return law, distances


def largest_rise(distances: list[float]) -> float:
    """How much the distance ever rises in one step; at most 0 for a chain that keeps its goal."""
    return max(later - sooner for sooner, later in itertools.pairwise(distances))
