"""Batched generation from prefixes of equal length, for training and measuring."""

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
    prefix: Tensor | None = None,
    *,
    tau: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Responses `[B, 16]` that continue `prefix` `[B, n]` (default: empty), with pads after a stop.

    Greedy at temperature `tau` 0, otherwise sampled with `generator`, which must be on the
    device of the prompts.
    """
    prefix = prompts[:, :0] if prefix is None else prefix
    responses = torch.full((len(prompts), RESPONSE_LENGTH), PAD_ID, device=prompts.device)
    responses[:, : prefix.shape[1]] = prefix
    stopped = (prefix == STOP_ID).any(1)
    ids, cache = torch.cat((prompts, prefix), 1), None
    for index in range(prefix.shape[1], RESPONSE_LENGTH):
        output = lm(input_ids=ids, past_key_values=cache, use_cache=True)
        logits, cache = output.logits[:, -1].float(), output.past_key_values
        if tau == 0.0:
            token = logits.argmax(-1)
        else:
            token = (logits / tau).softmax(-1).multinomial(1, generator=generator).squeeze(1)
        responses[:, index] = token.masked_fill(stopped, PAD_ID)
        stopped |= token == STOP_ID
        ids = token[:, None]  # the cache holds everything before
    return responses


def response_logits(lm: Qwen2ForCausalLM, prompts: Tensor, responses: Tensor) -> Tensor:
    """Logits `[B, 16, V]` that predict each response token."""
    ids = torch.cat((prompts, responses), 1)
    logits: Tensor = lm(input_ids=ids, use_cache=False).logits
    return logits[:, PROMPT_LENGTH - 1 : -1]
