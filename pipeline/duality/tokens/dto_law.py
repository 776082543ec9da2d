"""The exact laws of the released algorithm, without sampling.

DTO is deterministic: its law is the push-forward of the LM's law, a sum over responses. Nabla
decoding is a Markov chain over responses with one kernel for each position: its law is a
product of four matrices. The optimisation steps are those of the library
(`nabla_core.proposals.dto`); the gradients come from the tables of `EnumeratedModels`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.config import DTO, NablaConfig
from nabla_core.proposals.dto import Rows, adam_step, hard_tokens, optimise
from nabla_core.sampling import filtered_probabilities
from pipeline.duality.tokens.enumerable import STATES, EnumeratedModels, T, V, digits, number

_FREE = torch.zeros(V, dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class Descent:
    """What gradient descent does to every response.

    `destination` int64 `[S]`: the response it becomes; `changed` bool `[S, T]`: which tokens
    change; `margin` `[S, T]`: the best logit minus the second best before the descent;
    `largest_move`: the largest change of any logit.
    """

    destination: Tensor
    changed: Tensor
    margin: Tensor
    largest_move: float


def joint_descent(
    models: EnumeratedModels, config: DTO, reward_coeff: float, nll_coeff: float
) -> Descent:
    """Gradient descent on whole responses, which the claim is literally about.

    It starts from the LM's logits of each response and moves the logits of all T tokens at
    once. The gradient is straight-through: that of the loss at the one-hots of the current
    argmax tokens. `config.optimizer` is adam or mirror.
    """
    loss_rows = models.loss_rows(reward_coeff, nll_coeff).float()
    start = models.conditionals.float().reshape(-1, V)
    rows = Rows.start(start, digits().flatten(), None, _FREE, anchored=True)
    all_rows = torch.ones(STATES * T, dtype=torch.bool)
    if config.optimizer == "mirror":
        optimise(rows, loss_rows.reshape(-1, V), config, anchored=True)
        rows.hard = hard_tokens(rows, anchored=True)
    else:
        for _ in range(config.max_iters):
            current = number(rows.hard.reshape(STATES, T))
            adam_step(rows, loss_rows[current].reshape(-1, V), all_rows, config)
            rows.hard = hard_tokens(rows, anchored=True)
    best = start.topk(2, -1).values
    return Descent(
        destination=number(rows.hard.reshape(STATES, T)),
        changed=(rows.hard != digits().flatten()).reshape(STATES, T),
        margin=(best[:, 0] - best[:, 1]).reshape(STATES, T),
        largest_move=float((rows.x - start).abs().max()),
    )


def push_forward(law: Tensor, destination: Tensor) -> Tensor:
    """The law `[S]` of `destination[y]` for y of law `[S]`."""
    return torch.zeros_like(law).index_add(0, destination, law)


def optimised_logits(models: EnumeratedModels, config: NablaConfig) -> Tensor:
    """The logits, float32 `[S, T, V]`, to which the library's DTO optimises every position of
    every response. Each position is optimised by itself, with the rest of the response fixed."""
    objective = config.objective
    loss_rows = models.loss_rows(objective.reward_coeff, objective.nll_coeff).float()
    y = digits()
    rows = Rows.start(
        models.conditionals.float().reshape(-1, V), y.flatten(), None, _FREE, anchored=True
    )
    response = torch.arange(STATES).repeat_interleave(T)
    position = torch.arange(T).repeat(STATES)
    place = torch.tensor([V ** (T - 1 - t) for t in range(T)])[position]
    active = torch.arange(STATES * T)
    # `optimise` stops where the argmax token changes, because the gradient there is another
    # one; it goes on with the gradient of the new response until every row has finished.
    while len(active):
        current = response[active] + (rows.hard[active] - rows.y[active]) * place[active]
        part = rows.take(active.tolist())
        done = optimise(part, loss_rows[current, position[active]], config.dto, anchored=True)
        rows.put(active.tolist(), part)
        active = active[~done]
    return rows.logits().reshape(STATES, T, V)


def decoding_law(models: EnumeratedModels, config: NablaConfig) -> Tensor:
    """The exact law `[S]` of nabla decoding, left to right, with rollouts at temperature 1.

    At each position in order, unless the LM is too confident: draw a token b from the optimised
    logits; if it differs, roll out a new rest after it, and keep the response with the higher
    reward. There are T positions, so `max_rollouts` must be at least T. Raises ValueError for
    settings that are not enumerated.
    """
    drawn = config.rollout
    if drawn.temperature != 1 or drawn.top_p != 1 or drawn.top_k or drawn.min_p:
        raise ValueError(
            "only rollouts at temperature 1 without top_p, top_k, min_p are enumerated"
        )
    if config.proposals != "left_to_right" or config.max_rollouts < T:
        raise ValueError(f"only left-to-right proposals with max_rollouts >= {T} are enumerated")
    logits = optimised_logits(models, config)
    proposals = filtered_probabilities(logits.reshape(-1, V), config.resample).reshape(logits.shape)
    proposals = proposals / proposals.sum(-1, keepdim=True)
    confident = models.conditionals.exp().amax(-1) > config.select.confidence_threshold
    mass, reward, y = models.problem.reference, models.problem.reward, digits()
    law = mass
    for i in range(T):
        # The first i tokens stay, so the kernel is block-diagonal: one block [width, width]
        # (from, to) for each of the V^i prefixes.
        prefixes, width = V**i, STATES // V**i
        # p_ref(rest | prefix, token i): the law of the rollout after the new token.
        rollout = mass.reshape(prefixes, V, -1)
        rollout = (rollout / rollout.sum(-1, keepdim=True)).reshape(prefixes, width)
        token = y[:, i].reshape(prefixes, width)[0]
        propose = proposals[:, i].reshape(prefixes, width, V)[:, :, token]
        propose = propose.masked_fill(token[:, None] == token[None, :], 0.0)
        propose = propose.masked_fill(confident[:, i].reshape(prefixes, width, 1), 0.0)
        r = reward.reshape(prefixes, width)
        move = propose * rollout[:, None, :] * (r[:, None, :] > r[:, :, None])
        blocks = law.reshape(prefixes, 1, width)
        stay = law.reshape(prefixes, width) * (1 - move.sum(-1))
        law = (stay + (blocks @ move).squeeze(1)).flatten()
    return law
