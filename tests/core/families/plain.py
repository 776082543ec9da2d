"""What transformers alone says: one sequence at a time, no cache, no padding, no parts.

Gradients are taken by autograd through one-hot rows: `one-hot @ table`, where the table is what
the model's own embedding makes of every id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.core.families.tiny_models import EOS, SIZE
from tests.core.tiny import one_hots

Ids = tuple[int, ...]


@torch.no_grad()
def greedy(model: Any, prompt: Ids, count: int) -> Ids:
    """Up to `count` tokens by argmax, the stop token included."""
    made: list[int] = []
    while len(made) < count and EOS not in made:
        logits = model(input_ids=torch.tensor([[*prompt, *made]])).logits[0, -1]
        made.append(int(logits.argmax()))
    return tuple(made)


def likelihood(model: Any, prompt: Ids, response: Ids) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[T]` of a response, and the gradient of their sum `[T, V]`."""
    hot = one_hots(response, SIZE)
    inputs = torch.cat([_table(model)[list(prompt)], hot @ _table(model)])
    logits = model(inputs_embeds=inputs[None]).logits[0]
    each = (logits[len(prompt) - 1 : -1].log_softmax(-1) * hot).sum(-1)
    (gradient,) = torch.autograd.grad(each.sum(), hot)
    return each.detach(), gradient


def reward(model: Any, before: Ids, response: Ids, after: Ids) -> tuple[float, Tensor]:
    """The reward of a text, by its ids, and its gradient `[T, V]` for the response."""
    ids = [*before, *response, *after]
    with torch.no_grad():
        value = float(model(input_ids=torch.tensor([ids])).logits[0, 0])
    hot = one_hots(ids, SIZE)
    # Given embeddings, transformers reads the reward at the last column. What follows the token
    # that it reads given ids cannot matter.
    end = max(i for i, token in enumerate(ids) if token != model.config.pad_token_id) + 1
    output = model(inputs_embeds=(hot[:end] @ _table(model))[None]).logits
    (gradient,) = torch.autograd.grad(output.sum(), hot)
    return value, gradient[len(before) :][: len(response)]


def rewards(model: Any, texts: Sequence[tuple[Ids, Ids, Ids]]) -> list[tuple[float, Tensor]]:
    return [reward(model, *text) for text in texts]


def _table(model: Any) -> Tensor:
    table: Tensor = model.get_input_embeddings()(torch.arange(SIZE))
    return table.detach()
