"""The LMs: trained on right responses. The product's is stopped early, on skewed chains; the
reward models' lower layers come from a converged one, on uniform chains."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2ForCausalLM

from nabla_core.embedded import corpus, models, task
from nabla_core.embedded.rollouts import complete, response_logits

BATCH = 64
LEARNING_RATE = 3e-3
WARMUP = 30
FIRST_CHECK, CHECK_EVERY = 200, 10
STOP_AT = 0.53
FIRST_STEP_WEIGHT = 12.0
MOST_STEPS = 2000

Say = Callable[[str], None]


def train_early(*, seed: int, device: str, say: Say) -> tuple[Qwen2ForCausalLM, int]:
    """The LM and the number of steps it took, at most 2,000.

    Training ends at the first multiple of ten steps at which greedy accuracy on 1,000
    validation prompts reaches .53: the LM crosses .35 to .60 within some 50 steps, so a step
    count alone would land elsewhere for each seed.
    """
    held_out = validation(1000, device)
    _seed(f"lm/{seed}")
    lm, steps = models.new_lm().to(device), 0
    for steps, loss in _steps(
        lm, f"lm/{seed}", MOST_STEPS, uniform_from=MOST_STEPS + 1, device=device
    ):
        if steps % CHECK_EVERY == 0 and steps >= FIRST_CHECK:
            answers, traces = accuracy(lm, *held_out)
            say(f"step {steps} loss {loss:.3f} greedy accuracy {answers:.3f} trace {traces:.3f}")
            if answers >= STOP_AT:
                break
    return lm, steps


def train_converged(*, seed: int, steps: int, device: str, say: Say) -> Qwen2ForCausalLM:
    """An LM trained for `steps`: skewed chains first, the second half uniform ones with the
    learning rate falling to a tenth (uniform ones alone take longer)."""
    held_out = validation(1000, device)
    _seed(f"converged/{seed}")
    lm = models.new_foundation().to(device)
    for step, loss in _steps(
        lm, f"converged/{seed}", steps, uniform_from=steps // 2, device=device
    ):
        if step % 100 == 0 or step == steps:
            answers, traces = accuracy(lm, *held_out)
            say(f"step {step} loss {loss:.3f} greedy accuracy {answers:.3f} trace {traces:.3f}")
    return lm


def _seed(key: str) -> None:
    torch.manual_seed(random.Random(key).getrandbits(32))


def _steps(
    lm: Qwen2ForCausalLM, key: str, steps: int, *, uniform_from: int, device: str
) -> Iterator[tuple[int, float]]:
    """Train, yielding each step's number, counted from 1, and its loss.

    The first value is weighted up: its left operand stands elsewhere than those of the other
    seven, so unweighted it is learned last and nearly all errors are there.
    """
    rng = random.Random(key)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=LEARNING_RATE)
    for step in range(1, steps + 1):
        skewed = step < uniform_from
        falling = 1.0 if skewed else 1 - 0.9 * (step - uniform_from) / (steps - uniform_from)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, step / WARMUP) * falling
        texts = corpus.train_chains(rng, BATCH, skewed=skewed)
        prompts, gold = (
            corpus.encode_prompts(texts).to(device),
            corpus.encode_gold(texts).to(device),
        )
        logits = response_logits(lm, prompts, gold)
        losses = functional.cross_entropy(logits.mT, gold, reduction="none").mean(0)
        loss = losses.mean() + (FIRST_STEP_WEIGHT - 1) / len(losses) * losses[0]
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        yield step, loss.item()


def validation(count: int, device: str) -> tuple[Tensor, Tensor]:
    """Validation prompts `[count, 17]` and their right responses `[count, 16]`."""
    texts = [prompt.text for prompt in task.prompts(count, seed=0, split="validation")]
    return corpus.encode_prompts(texts).to(device), corpus.encode_gold(texts).to(device)


def accuracy(lm: Qwen2ForCausalLM, prompts: Tensor, gold: Tensor) -> tuple[float, float]:
    """Shares of right answers and right traces among greedy responses."""
    return shares(complete(lm, prompts), gold)


def shares(responses: Tensor, gold: Tensor) -> tuple[float, float]:
    """Shares of right answers (last digit) and of right traces among responses `[B, 16]`."""
    right = responses == gold
    return right[:, -2:].all(1).float().mean().item(), right.all(1).float().mean().item()
