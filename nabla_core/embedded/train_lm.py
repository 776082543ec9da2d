"""The LMs: a converged one, on which the reward models stand, and the product's, which errs.

The second is the first taught some more, on text with flawed arithmetic. Stopping early
makes an erring LM too, but where it lands then differs from seed to seed: accuracy rises from
.4 to .7 within some 40 steps, anywhere between step 500 and 1,500, and just before that the
right digit is the second choice in 96 % of the errors, so that no gradient is needed.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2ForCausalLM

from nabla_core.embedded import corpus, models, task
from nabla_core.embedded.flawed import FlawedArithmetic
from nabla_core.embedded.rollouts import complete
from nabla_core.embedded.tokenizer import VOCABULARY

BATCH = 64
LEARNING_RATE = 3e-3
WARMUP = 30
FIRST_STEP_WEIGHT = 12.0
RECALL_WEIGHT = 0.5
WEIGHT_DECAY = 0.1

Say = Callable[[str], None]


def train_converged(*, seed: int, steps: int, device: str, say: Say) -> Qwen2ForCausalLM:
    """An LM of right responses: to skewed chains first, in the second half to uniform ones with
    the learning rate falling to a tenth (uniform ones alone take longer).

    The first value is weighted up: its left operand stands elsewhere than those of the other
    seven, so unweighted it is learned last. A second head, dropped afterwards, recognises each
    token itself: it keeps readable above the last layer what a reward model must compare with
    the LM's expectation (local errors are then found within 100 steps instead of 2,000).
    """
    rng = random.Random(f"converged/{seed}")
    torch.manual_seed(rng.getrandbits(32))
    lm = models.new_lm().to(device)
    recall = nn.Linear(lm.config.hidden_size, VOCABULARY).to(device)
    weight = torch.ones(corpus.RESPONSE_LENGTH, device=device)
    weight[0] = FIRST_STEP_WEIGHT

    def batch(step: int) -> tuple[Tensor, Tensor]:
        texts = corpus.train_chains(rng, BATCH, skewed=step < steps // 2)
        return corpus.encode_prompts(texts), corpus.encode_gold(texts)

    def rate(step: int) -> float:
        return min(1.0, step / WARMUP, 1.9 - 1.8 * step / steps)

    _train(lm, batch, rate, weight, recall, steps=steps, say=say)
    return lm


def train_flawed(
    converged: Qwen2ForCausalLM, *, seed: int, steps: int, device: str, say: Say
) -> Qwen2ForCausalLM:
    """The converged LM after `steps` more on flawed responses to uniform chains."""
    rng = random.Random(f"lm/{seed}")
    flawed = FlawedArithmetic(rng)
    lm = copy.deepcopy(converged)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        texts = corpus.train_chains(rng, BATCH, skewed=False)
        responses = [flawed.response(text, rng) for text in texts]
        return corpus.encode_prompts(texts), corpus.encode_responses(responses)

    def rate(step: int) -> float:
        return min(1.0, step / WARMUP) * (1 - 0.9 * step / steps)

    weight = torch.ones(corpus.RESPONSE_LENGTH, device=device)
    _train(lm, batch, rate, weight, None, steps=steps, say=say)
    return lm


def _train(
    lm: Qwen2ForCausalLM,
    batch: Callable[[int], tuple[Tensor, Tensor]],
    rate: Callable[[int], float],
    weight: Tensor,
    recall: nn.Linear | None,
    *,
    steps: int,
    say: Say,
) -> None:
    """Cross-entropy of the response tokens, weighted by position; steps count from 1."""
    device = str(lm.device)
    held_out = validation(1000, device)
    trained = [*lm.parameters(), *(recall.parameters() if recall else ())]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(step)
        prompts, responses = (ids.to(device) for ids in batch(step))
        ids = torch.cat((prompts, responses), 1)
        hidden = lm.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = lm.lm_head(hidden[:, corpus.PROMPT_LENGTH - 1 : -1])
        losses = functional.cross_entropy(logits.mT, responses, reduction="none")
        loss = (losses * weight).mean()
        if recall:
            loss = loss + RECALL_WEIGHT * functional.cross_entropy(recall(hidden).mT, ids)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            answers, traces = accuracy(lm, *held_out)
            say(f"step {step} loss {loss.item():.3f} greedy {answers:.3f} trace {traces:.3f}")


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
