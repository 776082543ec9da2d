"""Batched continuations of prefixes of equal length, for training and measuring."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from nabla_core.embedded.recipe.corpus import PROMPT_LENGTH, RESPONSE_LENGTH
from nabla_core.embedded.tokenizer import PAD_ID, STOP_ID


@torch.no_grad()
def complete(
    lm: Qwen2ForCausalLM,
    prompts: Tensor,
    begun: Tensor | None = None,
    *,
    tau: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Responses `[B, 16]` that continue `begun` `[B, n]` (nothing by default), pads after a stop.

    Greedy at `tau` 0, else sampled with `generator`, which lives on the prompts' device.
    """
    begun = prompts[:, :0] if begun is None else begun
    responses = torch.full((len(prompts), RESPONSE_LENGTH), PAD_ID, device=prompts.device)
    responses[:, : begun.shape[1]] = begun
    stopped = (begun == STOP_ID).any(1)
    fed, cache = torch.cat((prompts, begun), 1), None
    for index in range(begun.shape[1], RESPONSE_LENGTH):
        output = lm(input_ids=fed, past_key_values=cache, use_cache=True)
        logits, cache = output.logits[:, -1].float(), output.past_key_values
        if tau == 0.0:
            token = logits.argmax(-1)
        else:
            token = (logits / tau).softmax(-1).multinomial(1, generator=generator).squeeze(1)
        responses[:, index] = token.masked_fill(stopped, PAD_ID)
        stopped |= token == STOP_ID
        fed = token[:, None]
    return responses


def response_logits(lm: Qwen2ForCausalLM, prompts: Tensor, responses: Tensor) -> Tensor:
    """Logits `[B, 16, V]` that predict each response token."""
    ids = torch.cat((prompts, responses), 1)
    logits: Tensor = lm(input_ids=ids, use_cache=False).logits
    return logits[:, PROMPT_LENGTH - 1 : -1]
