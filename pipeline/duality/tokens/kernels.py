"""Markov kernels on enumerated responses, as whole float64 matrices `[S, S]` (from, to).

T5: on tokens the analogue of noisy gradient descent is a chain that is reversible with
respect to pi*_beta. A Metropolis test makes any proposal reversible; without it none of these
proposals is.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from pipeline.duality.frontier import kl
from pipeline.duality.tokens.enumerable import STATES, EnumeratedModels, T, V, digits


def suffix_resampling(models: EnumeratedModels, beta: float, *, metropolis: bool = True) -> Tensor:
    """Cut at a uniform position, draw the rest from the LM, accept by the change of reward.

    The proposal is reversible with respect to p_ref: the cut has the same law from both sides,
    because all responses are equally long. So `min(1, exp((r' - r) / beta))` alone makes the
    chain reversible with respect to pi*_beta.
    """
    proposal = torch.zeros(STATES, STATES, dtype=torch.float64)
    mass = models.problem.reference
    for cut in range(T):
        # The prefix stays, so this part of the proposal is block-diagonal.
        prefixes = V**cut
        suffixes = mass.reshape(prefixes, -1)
        suffixes = suffixes / suffixes.sum(1, keepdim=True)
        blocks = proposal.reshape(prefixes, STATES // prefixes, prefixes, STATES // prefixes)
        diagonal = torch.arange(prefixes)
        blocks[diagonal, :, diagonal, :] += suffixes[:, None, :] / T
    if not metropolis:
        return proposal
    reward = models.problem.reward / beta
    proposal *= (reward[None, :] - reward[:, None]).clamp(max=0).exp()
    return _with_rejections(proposal)


def discrete_langevin(
    models: EnumeratedModels, beta: float, *, step_size: float = 2.0, metropolis: bool = True
) -> Tensor:
    """The discrete Langevin proposal (Zhang et al., ICML 2022): every token at once, from

        softmax_b(1/2 <f_i, e_b - e_{y_i}> - |e_b - e_{y_i}|^2 / (2 step_size)),

    where f_i is the gradient of r / beta + log p_ref with respect to the one-hot of token i.
    """
    rows = models.reward_rows / beta + models.likelihood_rows
    y = digits()
    # |e_b - e_y|^2 is 2 for b != y, and 0 for b = y.
    score = (rows - rows.gather(-1, y[..., None])) / 2 - 1 / step_size
    score.scatter_(-1, y[..., None], 0.0)
    log_q = score.log_softmax(-1)
    # log of the product over positions, [S, V^T] (from, to).
    joint = log_q[:, 0]
    for position in range(1, T):
        joint = (joint[:, :, None] + log_q[:, position, None, :]).flatten(1)
    if not metropolis:
        return joint.exp()
    log_target = models.problem.log_ref + models.problem.reward / beta
    # In place where possible: each of these matrices takes 128 MiB.
    log_accept = joint.T - joint
    log_accept += log_target[None, :] - log_target[:, None]
    return _with_rejections(joint.add_(log_accept.clamp_(max=0)).exp_())


def _with_rejections(moves: Tensor) -> Tensor:
    """The kernel of accepted moves `[S, S]`, in place: rejected mass stays on the diagonal."""
    moves.fill_diagonal_(0.0)
    moves.diagonal().copy_(1 - moves.sum(1))
    return moves


def stationarity_error(kernel: Tensor, law: Tensor) -> float:
    """||law P - law||_1, which is 0 where the kernel keeps the law."""
    return float((law @ kernel - law).abs().sum())


def follow(
    kernel: Tensor, start: Tensor, optimum: Tensor, steps: int
) -> tuple[Tensor, list[float]]:
    """The law after `steps`, and KL(law || optimum) before each step and at the end."""
    law, distances = start, [kl(start, optimum)]
    for _ in range(steps):
        law = law @ kernel
        distances.append(kl(law, optimum))
    return law, distances


def largest_rise(distances: list[float]) -> float:
    """The largest increase in one step; at most 0 for a chain that keeps the optimum."""
    return max(after - before for before, after in itertools.pairwise(distances))
