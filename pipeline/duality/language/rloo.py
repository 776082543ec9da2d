"""RLOO on the embedded LM, in plain torch.

The KL is part of the reward of a whole response, so the gradient is unbiased for J and the
optimum is pi*_beta. TRL's trainers put a per-token penalty into the loss (GRPO) or add rules
of their own for padding, truncation and scaling; the reference of this stage must have none.
"""

from __future__ import annotations

import copy
import math

import torch
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded import task
from nabla_core.embedded.recipe import corpus
from nabla_core.embedded.recipe.models import rewards
from nabla_core.embedded.recipe.rollouts import complete
from pipeline.duality.language.config import RlooConfig
from pipeline.duality.language.embedded_models import log_probability

WARM_UP_STEPS = 10


def rloo(
    lm: Qwen2ForCausalLM,
    judge: Qwen2ForSequenceClassification,
    beta: float,
    settings: RlooConfig,
    *,
    seed: int,
) -> Qwen2ForCausalLM:
    """A policy trained from the LM to maximise E[r] - beta KL, on prompts of the validation
    split: the test split is measured on."""
    policy = copy.deepcopy(lm).requires_grad_(True)
    optimizer = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    count = settings.steps * settings.prompts_per_step
    texts = [p.text for p in task.prompts(count, seed=seed, split="validation")]
    batches = corpus.encode_prompts(texts).split(settings.prompts_per_step)
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate_factor(step, settings.steps)
        prompts = batch.repeat_interleave(settings.group_size, 0)
        responses = complete(policy, prompts, tau=1.0, generator=generator)
        with torch.no_grad():
            reward = rewards(judge, torch.cat((prompts, responses), 1))
            log_ref = log_probability(lm, prompts, responses)
        log_p = log_probability(policy, prompts, responses)
        # r - beta log(p / p_ref) of each response, [prompts, group].
        regularised = reward - beta * (log_p.detach() - log_ref)
        regularised = regularised.reshape(-1, settings.group_size)
        # Leave-one-out: the baseline of a response is the mean of the others in its group,
        # which does not depend on it, so the gradient stays unbiased.
        baseline = regularised.sum(1, keepdim=True) - regularised
        baseline = baseline / (settings.group_size - 1)
        loss = -((regularised - baseline).flatten() * log_p).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.eval().requires_grad_(False)


def _rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 0."""
    return min((step + 1) / WARM_UP_STEPS, 0.5 * (1 + math.cos(math.pi * step / steps)))
