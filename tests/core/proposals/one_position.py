"""Literal code that makes the proposal of one position at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nabla_core.config import NablaConfig
from nabla_core.draws import uniform
from nabla_core.engines.base import Engines
from nabla_core.requests import Context
from tests.core.reference import KEY, Literal
from tests.core.tiny import Family
from tests.oracle.literal import rate, sample_token


class OnePosition:
    """Selection, optimisation and resampling of one position, a fresh gradient at every step."""

    def __init__(self, literal: Literal, config: NablaConfig, banned: Tensor) -> None:
        self.literal, self.config, self.banned = literal, config, banned

    def states(self, context: Context, y: tuple[int, ...]) -> Tensor:
        """The last hidden states `[T, D]` that predicted each token."""
        ids = torch.tensor([[*context.lm, *y]])
        with torch.no_grad():
            hidden = self.literal.lm.base_model(input_ids=ids).last_hidden_state[0]
        return hidden[len(context.lm) - 1 : -1]

    def gradient(self, context: Context, y: tuple[int, ...], i: int, token: int) -> Tensor:
        later = y[i + 1 :]
        if self.config.anchor == "argmax":
            head = self.literal.lm.get_output_embeddings()
            logits = head(self.states(context, y)).masked_fill(self.banned, float("-inf"))
            later = tuple(logits[i + 1 :].argmax(-1).tolist())
        hard = (*y[:i], token, *later)
        return self.literal.gradient(context, hard, self.config.objective)[i]

    def propose(self, context: Context, y: tuple[int, ...], i: int) -> int | None:
        """The token drawn for position i, None where it is not selected."""
        select, dto = self.config.select, self.config.dto
        head = self.literal.lm.get_output_embeddings()
        state = self.states(context, y)[i]
        latents = dto.variable == "latents"
        x = (state if latents else head(state)).clone().requires_grad_()

        def logits() -> Tensor:
            return (head(x) if latents else x).masked_fill(self.banned, float("-inf"))

        if logits().softmax(-1).max() > select.confidence_threshold:
            return None
        top = int(logits().argmax())
        anchored = self.config.anchor == "rollout"
        start = y[i] if anchored else top
        g = self.gradient(context, y, i, start)[~self.banned]
        g = g - g.mean() if select.norm == "centred" else g
        if g.norm() < select.grad_threshold:
            return None
        adam = torch.optim.Adam([x], lr=dto.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda t: rate(dto, t))
        for _ in range(dto.max_iters):
            token = int(logits().argmax())
            token = y[i] if anchored and token == top else token
            g = self.gradient(context, y, i, token).masked_fill(self.banned, 0.0)
            soft = logits().softmax(-1)
            (x.grad,) = torch.autograd.grad((soft * g).sum(), x)
            adam.step()
            schedule.step()
        return sample_token(logits().detach(), self.config.resample, uniform(KEY, i))


def literal_changes(
    family: Family, engines: Engines, contexts: Any, responses: Any, config: NablaConfig
) -> list[list[tuple[int, int, int]]]:
    literal = Literal(family, engines)
    banned = torch.arange(len(literal.ids)) >= literal.vocabulary
    literal_position = OnePosition(literal, config, banned)
    per_response = []
    for context, response in zip(contexts, responses, strict=True):
        y = response.tokens
        drawn = [(i, y[i], literal_position.propose(context, y, i)) for i in range(len(y))]
        per_response.append([(i, a, b) for i, a, b in drawn if b not in (None, a)])
    return per_response
