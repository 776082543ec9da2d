"""Batched generation with the LM of the stories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM

from nabla_core.embedded.tokenizer import STOP
from tests.bench.stories import models
from tests.bench.stories.task import Story
from tests.bench.stories.texts import StoryResponse

MAX_TOKENS = 26


@torch.no_grad()
def sampled(
    lm: LlamaForCausalLM, stories: Sequence[Story], temperatures: Sequence[float]
) -> list[StoryResponse]:
    """Responses of the LM. The stories are split evenly over the temperatures; 0 is greedy."""
    found = []
    for number, temperature in enumerate(temperatures):
        mine = stories[number :: len(temperatures)]
        drawn = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
        for first in range(0, len(mine), 250):
            asked = mine[first : first + 250]
            prompts = models.tokenizer()(
                [s.text for s in asked], padding=True, padding_side="left", return_tensors="pt"
            )
            ids = lm.generate(
                input_ids=prompts["input_ids"],
                attention_mask=prompts["attention_mask"],
                max_new_tokens=MAX_TOKENS,
                **(drawn or {"do_sample": False}),
            )[:, prompts["input_ids"].size(1) :]
            for story, row in zip(asked, ids.tolist(), strict=True):
                words = [models.TOKENS[i] for i in row]
                length = words.index(STOP) + 1 if STOP in words else len(words)
                found.append(StoryResponse(story, tuple(words[:length])))
    return found
