"""The LMs: a converged one, which is the lower part of the reward models, and the shipped one,
which makes errors.

The shipped LM is the converged one after more training on text with flawed arithmetic. Early
stopping would also give an LM that makes errors, with two faults. Accuracy rises from 0.4 to 0.7
within about 40 steps, anywhere between steps 500 and 1,500, so the result would depend on the
seed. And just before that rise the right digit is the second choice in 96 % of the errors: a
search would need no gradient.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2ForCausalLM

from nabla_core.embedded import task
from nabla_core.embedded.recipe import corpus, models
from nabla_core.embedded.recipe.flawed import FlawedArithmetic
from nabla_core.embedded.recipe.rollouts import complete, response_logits

BATCH = 64
LEARNING_RATE = 3e-3
WARMUP = 30
FIRST_STEP_WEIGHT = 12.0

Log = Callable[[str], None]


def train_converged(*, seed: int, steps: int, device: str, log: Log) -> Qwen2ForCausalLM:
    """An LM of right responses.

    The first half of the steps is on skewed chains, the second half on uniform ones, while the
    learning rate falls to a tenth; uniform chains alone take longer. The first value of a
    response has a higher weight: its left operand is in the prompt and not in the response as
    for the other seven, so without the weight it is learned last.
    """
    rng = random.Random(f"converged/{seed}")
    torch.manual_seed(rng.getrandbits(32))
    lm = models.new_foundation().to(device)
    weight = torch.ones(corpus.RESPONSE_LENGTH, device=device)
    weight[0] = FIRST_STEP_WEIGHT

    def batch(step: int) -> tuple[Tensor, Tensor]:
        # See `corpus.skewed_chain`: first where the operands are, then all facts.
        texts = corpus.train_chains(rng, BATCH, skewed=step < steps // 2)
        return corpus.encode_prompts(texts), corpus.encode_gold(texts)

    def rate(step: int) -> float:
        return min(1.0, step / WARMUP, 1.9 - 1.8 * step / steps)

    _train(lm, batch, rate, weight, steps=steps, log=log)
    return lm


def train_flawed(
    converged: Qwen2ForCausalLM, *, seed: int, steps: int, device: str, log: Log
) -> Qwen2ForCausalLM:
    """The converged LM after `steps` more steps, on flawed responses to uniform chains."""
    rng = random.Random(f"lm/{seed}")
    flawed = FlawedArithmetic(rng)
    lm = copy.deepcopy(converged)  # the reward models keep the converged one

    def batch(step: int) -> tuple[Tensor, Tensor]:
        texts = corpus.train_chains(rng, BATCH, skewed=False)
        responses = [flawed.response(text, rng) for text in texts]
        return corpus.encode_prompts(texts), corpus.encode_responses(responses)

    def rate(step: int) -> float:
        return min(1.0, step / WARMUP) * (1 - 0.9 * step / steps)

    weight = torch.ones(corpus.RESPONSE_LENGTH, device=device)
    _train(lm, batch, rate, weight, steps=steps, log=log)
    return lm


def _train(
    lm: Qwen2ForCausalLM,
    batch: Callable[[int], tuple[Tensor, Tensor]],
    rate: Callable[[int], float],
    weight: Tensor,
    *,
    steps: int,
    log: Log,
) -> None:
    """Minimise the cross-entropy of the response tokens, weighted by position."""
    device = str(lm.device)
    held_out = validation(1000, device)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=LEARNING_RATE)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(step)
        prompts, responses = (ids.to(device) for ids in batch(step))
        logits = response_logits(lm, prompts, responses)
        losses = functional.cross_entropy(logits.mT, responses, reduction="none")
        loss = (losses * weight).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            answers, traces = accuracy(lm, *held_out)
            log(f"step {step} loss {loss.item():.3f} greedy {answers:.3f} trace {traces:.3f}")


def validation(count: int, device: str) -> tuple[Tensor, Tensor]:
    """Validation prompts `[count, 17]` and their right responses `[count, 16]`."""
    texts = [prompt.text for prompt in task.prompts(count, seed=0, split="validation")]
    return corpus.encode_prompts(texts).to(device), corpus.encode_gold(texts).to(device)


def accuracy(lm: Qwen2ForCausalLM, prompts: Tensor, gold: Tensor) -> tuple[float, float]:
    """Shares of right answers and of right traces among greedy responses."""
    return shares(complete(lm, prompts), gold)


def shares(responses: Tensor, gold: Tensor) -> tuple[float, float]:
    """Shares of right answers (last digit) and of right traces among responses `[B, 16]`."""
    right = responses == gold
    return right[:, -2:].all(1).float().mean().item(), right.all(1).float().mean().item()
