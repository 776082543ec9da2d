"""The laws that the released dynamics really have, without sampling.

DTO is deterministic: its push-forward of the LM's law is a sum over responses. Nabla decoding
is a Markov chain over (response, boundary): its law is a product of four matrices. The steps
are the product's own (`nabla_core.proposals.dto`); gradients come from the tables of the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.config import DTO, NablaConfig
from nabla_core.proposals.dto import Rows, adam_step, hard_tokens, optimise
from nabla_core.sampling import filtered_probabilities
from pipeline.duality.tokens.enumerable import STATES, T, V, World, digits, number

_FREE = torch.zeros(V, dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class Descent:
    """Where each response goes, int64 `[S]`; `changed` bool `[S, T]` which of its tokens;
    `margin` `[S, T]` how far the best logit was ahead of the second before; `travel` the
    largest move of any logit."""

    goes: Tensor
    changed: Tensor
    margin: Tensor
    travel: float


def joint_descent(world: World, config: DTO, reward_coeff: float, nll_coeff: float) -> Descent:
    """Where gradient descent on whole samples takes each response.

    Logits of all tokens at once, straight-through at the hard response, from the logits that
    produced it: the literal descent of the claim. `config.optimizer` adam or mirror.
    """
    loss_rows = world.loss_rows(reward_coeff, nll_coeff).float()
    start = world.conditionals.float().reshape(-1, V)
    rows = Rows.start(start, digits().flatten(), None, _FREE, anchored=True)
    everywhere = torch.ones(STATES * T, dtype=torch.bool)
    if config.optimizer == "mirror":
        optimise(rows, loss_rows.reshape(-1, V), config, anchored=True)
        rows.hard = hard_tokens(rows, anchored=True)
    else:
        for _ in range(config.max_iters):
            here = number(rows.hard.reshape(STATES, T))
            adam_step(rows, loss_rows[here].reshape(-1, V), everywhere, config)
            rows.hard = hard_tokens(rows, anchored=True)
    best = start.topk(2, -1).values
    return Descent(
        goes=number(rows.hard.reshape(STATES, T)),
        changed=(rows.hard != digits().flatten()).reshape(STATES, T),
        margin=(best[:, 0] - best[:, 1]).reshape(STATES, T),
        travel=float((rows.x - start).abs().max()),
    )


def push_forward(law: Tensor, destination: Tensor) -> Tensor:
    """The law of the destinations."""
    return torch.zeros_like(law).index_add(0, destination, law)


def optimised(world: World, config: NablaConfig) -> Tensor:
    """fp32 `[S, T, V]`: the logits that the product's DTO leaves at every position of every
    response, one position at a time, the rest of the response as it is."""
    objective = config.objective
    loss_rows = world.loss_rows(objective.reward_coeff, objective.nll_coeff).float()
    y = digits()
    rows = Rows.start(
        world.conditionals.float().reshape(-1, V), y.flatten(), None, _FREE, anchored=True
    )
    response = torch.arange(STATES).repeat_interleave(T)
    position = torch.arange(T).repeat(STATES)
    place = torch.tensor([V ** (T - 1 - t) for t in range(T)])[position]
    todo = torch.arange(STATES * T)
    while len(todo):
        # The hard sequence of a row: its response with the row's hard token in place.
        here = response[todo] + (rows.hard[todo] - rows.y[todo]) * place[todo]
        part = rows.take(todo.tolist())
        done = optimise(part, loss_rows[here, position[todo]], config.dto, anchored=True)
        rows.put(todo.tolist(), part)
        todo = todo[~done]
    return rows.logits().reshape(STATES, T, V)


def decoding_law(world: World, config: NablaConfig) -> Tensor:
    """The exact law `[S]` of nabla decoding, left to right, rollouts at temperature 1.

    At each position in order, where the LM is not too sure: draw b from the optimised row;
    if it is another token, draw a new tail behind it and keep the better of the two.
    `max_rollouts` must not bind (there are T positions). Raises ValueError where a setting
    is outside of what is enumerated here.
    """
    if config.rollout.temperature != 1 or config.rollout.top_p != 1 or config.rollout.top_k:
        raise ValueError("the reference here is the LM's own law: rollouts at temperature 1")
    if config.proposals != "left_to_right" or config.max_rollouts < T:
        raise ValueError(f"enumerated are left-to-right proposals, max_rollouts >= {T}")
    logits = optimised(world, config)
    chosen = filtered_probabilities(logits.reshape(-1, V), config.resample).reshape(logits.shape)
    chosen = chosen / chosen.sum(-1, keepdim=True)
    sure = world.conditionals.exp().amax(-1) > config.select.confidence_threshold
    mass, reward, y = world.target.reference, world.target.reward, digits()
    law = mass
    for i in range(T):
        heads, width = V**i, STATES // V**i
        tails = mass.reshape(heads, V, -1)
        tails = (tails / tails.sum(-1, keepdim=True)).reshape(heads, width)
        to_token = y[:, i].reshape(heads, width)[0]
        from_token = to_token
        propose = chosen[:, i].reshape(heads, width, V)[:, :, to_token]
        propose = propose.masked_fill(from_token[:, None] == to_token[None, :], 0.0)
        propose = propose.masked_fill(sure[:, i].reshape(heads, width, 1), 0.0)
        r = reward.reshape(heads, width)
        move = propose * tails[:, None, :] * (r[:, None, :] > r[:, :, None])
        blocks = law.reshape(heads, 1, width)
        stay = law.reshape(heads, width) * (1 - move.sum(-1))
        law = (stay + (blocks @ move).squeeze(1)).flatten()
    return law
