"""Gold-aligned guides: reward models whose gradient is trained on the task's own arithmetic.

A guide starts as the judge; embeddings and layers 1-3 stay frozen. The gradient itself is
trained, by differentiating it again, in two stages:

- `align`: cross-entropy of the gradient over the ten digits, `E @ d reward / d e_i`, at every
  step of a response, relative to the locally right digit.
- `calibrate`: cross-entropy of the mirror step at beta 1 over the whole vocabulary,
  softmax(log p_LM + E @ d reward / d e_i), at every position, relative to the locally right
  token. The gradient then is the log-odds that the LM's probabilities lack, in the same units
  at all positions, which is what a search needs that ranks all positions together.

No loss term concerns the reward itself, so these models are no judges.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded.recipe import corpus, models, train_judge
from nabla_core.embedded.recipe.measure import DIGIT_IDS, reward_gradient
from nabla_core.embedded.recipe.rollouts import response_logits
from nabla_core.embedded.recipe.train_lm import Log
from nabla_core.embedded.task import DIGITS, SEPARATOR
from nabla_core.embedded.tokenizer import IDS, PAD_ID, STOP_ID, ZERO_ID

ALIGN_RATE, CALIBRATE_RATE = 2e-3, 1e-3
WARMUP = 30
BATCH = 64
# Mostly the LM's own responses, whose errors the guide is for. The scrambled ones also have errors
# at facts that the LM knows.
FROM_LM = 0.75
SCRAMBLED = 0.3
# Weight of right steps in the alignment loss; wrong steps have 1. Where the digit is right, the
# gradient only has to point at no other digit.
RIGHT_STEPS = 0.3

Loss = Callable[[Qwen2ForSequenceClassification, Tensor, Tensor], Tensor]


def align(
    lm: Qwen2ForCausalLM,
    judge: Qwen2ForSequenceClassification,
    *,
    seed: int,
    steps: int,
    device: str,
    log: Log,
) -> Qwen2ForSequenceClassification:
    """A guide for the responses of `lm`: `judge` after `steps` steps of alignment.

    The loss stays near log 10 for about 400 steps before the gradient changes its direction.
    """
    return _train(
        judge,
        alignment_loss,
        lm,
        rate=ALIGN_RATE,
        stream="guide",
        seed=seed,
        steps=steps,
        device=device,
        log=log,
    )


def calibrate(
    lm: Qwen2ForCausalLM,
    aligned: Qwen2ForSequenceClassification,
    *,
    seed: int,
    steps: int,
    device: str,
    log: Log,
) -> Qwen2ForSequenceClassification:
    """The aligned guide after `steps` steps of calibration."""

    def loss(guide: Qwen2ForSequenceClassification, prompts: Tensor, responses: Tensor) -> Tensor:
        with torch.no_grad():
            prior = response_logits(lm, prompts, responses).log_softmax(-1)
        return mirror_loss(guide, prior, prompts, responses)

    return _train(
        aligned,
        loss,
        lm,
        rate=CALIBRATE_RATE,
        stream="calibrate",
        seed=seed,
        steps=steps,
        device=device,
        log=log,
    )


def _train(
    start: Qwen2ForSequenceClassification,
    loss_of: Loss,
    lm: Qwen2ForCausalLM,
    *,
    rate: float,
    stream: str,
    seed: int,
    steps: int,
    device: str,
    log: Log,
) -> Qwen2ForSequenceClassification:
    """`start` after `steps` steps on `loss_of`; `stream` names the random numbers of the stage."""
    guide = copy.deepcopy(start).requires_grad_(True)
    # The embeddings too: the gradient is a product with them, and moving them would change the
    # prediction for every token at every position.
    models.freeze_lower(guide)
    rng = random.Random(f"{stream}/{seed}")
    torch.manual_seed(rng.getrandbits(32))
    generator = torch.Generator(device).manual_seed(rng.getrandbits(32))
    # Another seed than the judge's: these responses were not used to train the start.
    pool = train_judge.sample_pool(lm, seed=seed + 1000, device=device)
    trained = [parameter for parameter in guide.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    for step in range(1, steps + 1):
        share = min(1.0, step / WARMUP) * (1 - 0.9 * step / steps)
        optimizer.param_groups[0]["lr"] = rate * share
        prompts, responses = _batch(rng, generator, pool, device)
        loss = loss_of(guide, prompts, responses)
        optimizer.zero_grad()
        # The input embeddings are leaves of the double backward too, and need no gradient.
        torch.autograd.backward(loss, inputs=trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 100 == 0:
            log(f"step {step} loss {loss.item():.3f}")
    return guide


def alignment_loss(
    guide: Qwen2ForSequenceClassification, prompts: Tensor, responses: Tensor
) -> Tensor:
    """Weighted cross-entropy of the gradient over digits relative to the locally right digit of
    every step, a differentiable function of the weights. Steps without a digit, or after a step
    without one, do not count."""
    gradient = reward_gradient(guide, prompts, responses, create_graph=True)
    digit_logits = gradient[:, ::2, DIGIT_IDS]
    right = corpus.right_digits(prompts, responses)
    weight = torch.where(corpus.locally_right(prompts, responses), RIGHT_STEPS, 1.0)
    taken = responses[:, ::2] - ZERO_ID
    # A missing digit has no gradient row to compare, and a step after one has no right digit.
    weight = weight * ((right >= 0) & (taken >= 0) & (taken < len(DIGITS)))
    loss = functional.cross_entropy(
        digit_logits.flatten(0, 1), right.clamp(min=0).flatten(), reduction="none"
    )
    return (loss * weight.flatten()).sum() / weight.sum()


def mirror_loss(
    guide: Qwen2ForSequenceClassification, prior: Tensor, prompts: Tensor, responses: Tensor
) -> Tensor:
    """Mean cross-entropy of softmax(prior + gradient) relative to the locally right token of every
    position, a differentiable function of the weights. `prior` `[B, 16, V]` are the LM's
    log-probabilities.

    Positions after an early stop and steps after a value that is no digit do not count.
    """
    gradient = reward_gradient(guide, prompts, responses, create_graph=True)
    right = corpus.right_digits(prompts, responses)
    target = torch.full_like(responses, IDS[SEPARATOR])
    target[:, -1] = STOP_ID
    target[:, ::2] = torch.where(right >= 0, right + ZERO_ID, PAD_ID)
    target = target.masked_fill(responses == PAD_ID, PAD_ID)
    return functional.cross_entropy(
        (prior + gradient).flatten(0, 1), target.flatten(), ignore_index=PAD_ID
    )


def _batch(
    rng: random.Random, generator: torch.Generator, pool: tuple[Tensor, Tensor], device: str
) -> tuple[Tensor, Tensor]:
    """Three quarters are responses of the LM, one quarter are scrambled right responses."""
    sampled = round(BATCH * FROM_LM)
    rows = torch.randint(len(pool[0]), (sampled,), generator=generator, device=device)
    texts = corpus.train_chains(rng, BATCH - sampled, skewed=False)
    prompts, gold = corpus.encode_prompts(texts).to(device), corpus.encode_gold(texts).to(device)
    responses = corpus.scramble(gold, SCRAMBLED, generator)
    return torch.cat((pool[0][rows], prompts)), torch.cat((pool[1][rows], responses))
