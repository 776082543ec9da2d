"""RLOO on the embedded LM, in plain torch.

The KL is part of the reward of a whole response, so the gradient is unbiased for J and the
optimum is pi*_beta. TRL's trainers put a per-token penalty into the loss (GRPO) or add rules
of their own for padding, truncation and scaling; the reference of this stage must have none.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded import task
from nabla_core.embedded.recipe import corpus
from nabla_core.embedded.recipe.models import rewards
from nabla_core.embedded.recipe.rollouts import complete
from pipeline.duality.language.config import RlooConfig
from pipeline.duality.language.embedded_models import log_probability

WARM_UP_STEPS = 10


class Rloo:
    """A policy in training: it starts as the LM, and ascends J = E[r] - beta KL(policy || LM)."""

    def __init__(
        self, lm: Qwen2ForCausalLM, judge: Qwen2ForSequenceClassification, beta: float
    ) -> None:
        self.lm, self.judge, self.beta = lm, judge, beta
        self.policy = copy.deepcopy(lm).requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.policy.parameters())

    def step(
        self, prompts: Tensor, group_size: int, learning_rate: float, generator: torch.Generator
    ) -> None:
        """One step on `group_size` responses of the policy to each prompt, ids `[B, 17]`."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        prompts = prompts.repeat_interleave(group_size, 0)
        responses = complete(self.policy, prompts, tau=1.0, generator=generator)
        # A policy that has learned repeats itself: each response is read once.
        rows, index = torch.cat((prompts, responses), 1).unique(dim=0, return_inverse=True)
        prompts, responses = rows.split([prompts.size(1), responses.size(1)], 1)
        with torch.no_grad():
            reward = rewards(self.judge, rows)
            log_ref = log_probability(self.lm, prompts, responses)
        log_p = log_probability(self.policy, prompts, responses)
        # r - beta log(p / p_ref) of each response, [prompts, group].
        regularised = reward - self.beta * (log_p.detach() - log_ref)
        regularised = regularised[index].reshape(-1, group_size)
        # Leave-one-out: the baseline of a response is the mean of the others in its group,
        # which does not depend on it, so the gradient stays unbiased.
        baseline = regularised.sum(1, keepdim=True) - regularised
        baseline = baseline / (group_size - 1)
        loss = -((regularised - baseline).flatten() * log_p[index]).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def rloo(
    lm: Qwen2ForCausalLM,
    judge: Qwen2ForSequenceClassification,
    beta: float,
    settings: RlooConfig,
    *,
    seed: int,
) -> Qwen2ForCausalLM:
    """A policy trained from the LM to maximise E[r] - beta KL for a fixed number of steps, on
    prompts of the validation split: the test split is measured on."""
    training = Rloo(lm, judge, beta)
    generator = torch.Generator().manual_seed(seed)
    count = settings.steps * settings.prompts_per_step
    texts = [p.text for p in task.prompts(count, seed=seed, split="validation")]
    batches = corpus.encode_prompts(texts).split(settings.prompts_per_step)
    for step, batch in enumerate(batches):
        rate = settings.learning_rate * _rate_factor(step, settings.steps)
        training.step(batch, settings.group_size, rate, generator)
    return training.policy.eval().requires_grad_(False)


def _rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 0."""
    return min((step + 1) / WARM_UP_STEPS, 0.5 * (1 + math.cos(math.pi * step / steps)))
