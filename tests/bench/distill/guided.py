"""Guided decoding: greedy under p exp(eta A), a prototype for the embedded models.

At every step the token with the highest log p + eta A is taken: p is the LM's law, A are the
advantages that the head predicts. No judge, no search. All prompts have one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from nabla_core.embedded.tokenizer import PAD_ID, STOP_ID, encode
from nabla_core.models.flops import Shape


@torch.inference_mode()
def guided(
    lm_path: str, head_path: str, prompts: Sequence[str], *, eta: float, limit: int, batch: int
) -> tuple[list[list[int]], float]:
    """The response tokens to each prompt, and the FLOPs of all."""
    models = [AutoModelForCausalLM.from_pretrained(path).eval() for path in (lm_path, head_path)]
    responses: list[list[int]] = []
    flops = 0.0
    for start in range(0, len(prompts), batch):
        ids = torch.tensor([encode(text) for text in prompts[start : start + batch]])
        tokens = _decode(models, ids, eta, limit)
        responses += tokens
        flops += sum(_flops(models, ids.size(1), len(row)) for row in tokens)
    return responses, flops


def _decode(models: Sequence[Any], ids: Tensor, eta: float, limit: int) -> list[list[int]]:
    caches: list[Any] = [None, None]
    fed, chosen = ids, []
    ended = torch.zeros(len(ids), dtype=torch.bool)
    for _ in range(limit):
        outputs = []
        for n, model in enumerate(models):
            out = model(input_ids=fed, past_key_values=caches[n], use_cache=True)
            caches[n] = out.past_key_values
            outputs.append(out.logits[:, -1])
        token = (outputs[0].log_softmax(-1) + eta * outputs[1]).argmax(-1)
        token = token.where(~ended, PAD_ID)
        chosen.append(token)
        ended |= token == STOP_ID
        if ended.all():
            break
        fed = token[:, None]
    rows: list[list[int]] = torch.stack(chosen, 1).tolist()
    return [row[: row.index(STOP_ID) + 1] if STOP_ID in row else row for row in rows]


def _flops(models: Sequence[Any], prompt: int, tokens: int) -> float:
    total = 0.0
    for model in models:
        shape = Shape.of(model.base_model, model.config, model.config.vocab_size)
        # The last token is not fed.
        total += shape.forward(prompt + tokens - 1) + shape.head(tokens)
    return total
