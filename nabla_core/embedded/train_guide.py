"""The guide: a reward model whose gradient points at better tokens (gradient alignment).

It starts as the judge; embeddings and layers 1-3 stay frozen. What is trained is the gradient
`E @ d score / d e_i` itself, by differentiating it again.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2ForSequenceClassification

from nabla_core.embedded import corpus, models
from nabla_core.embedded.counterfactuals import Counterfactuals
from nabla_core.embedded.measure import DIGIT_IDS, reward_gradient
from nabla_core.embedded.tokenizer import ZERO_ID
from nabla_core.embedded.train_lm import Say

LEARNING_RATE = 2e-3
WARMUP = 30
BATCH = 128
TEMPERATURE = 0.3
WRONG_STEPS = 0.7

Loss = Callable[[Qwen2ForSequenceClassification], Tensor]


def train(
    judge: Qwen2ForSequenceClassification, loss_of: Loss, *, steps: int, say: Say
) -> Qwen2ForSequenceClassification:
    """A guide that starts as the judge and takes `steps` steps on fresh batches of `loss_of`."""
    guide = copy.deepcopy(judge).train()
    models.freeze_lower(guide)
    trained = [parameter for parameter in guide.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    mean = 0.0
    for step in range(1, steps + 1):
        rate = min(1.0, step / WARMUP) * (1 - 0.9 * step / steps)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        loss = loss_of(guide)
        optimizer.zero_grad()
        torch.autograd.backward(loss, inputs=trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        mean += loss.item() / 100
        if step % 100 == 0:
            say(f"step {step} mean loss {mean:.3f}")
            mean = 0.0
    return guide.eval()


def gold_free(known: Counterfactuals, *, seed: int, across: float) -> Loss:
    """The gradient against the judge's scores of what was tried, two cross-entropies.

    Within a step: softmax of the gradient over digits against softmax(judge score / .3).
    Across steps, weighted by `across`: all alternatives at all tried steps and "no change"
    compete. With `d` the first-order gain `g[b] - g[y_i]`, `a` the judge's gain / .3 and `l`
    the LM's log-probability ratio, softmax(d + l) is drawn to softmax(a + l), so that the
    ranked search's score at eta 1 is what is trained.
    """
    device = known.prompts.device
    generator = torch.Generator(device).manual_seed(
        random.Random(f"gold-free/{seed}").getrandbits(32)
    )
    target = (known.tried / TEMPERATURE).softmax(-1)
    gains = (known.tried - known.rewards[:, None, None]) / TEMPERATURE
    taken = known.responses[:, ::2].gather(1, known.steps)[..., None] - ZERO_ID

    def loss_of(guide: Qwen2ForSequenceClassification) -> Tensor:
        rows = torch.randint(len(target), (BATCH,), generator=generator, device=device)
        gradient = reward_gradient(
            guide, known.prompts[rows], known.responses[rows], create_graph=True
        )
        chosen = known.steps[rows][..., None].expand(-1, -1, 10)
        points = gradient[:, ::2, DIGIT_IDS].gather(1, chosen)
        within = functional.cross_entropy(points.flatten(0, 1), target[rows].flatten(0, 1))
        if across == 0.0:
            return within
        own, prior = taken[rows], known.prior[rows]
        ratio = prior - prior.gather(2, own)
        pointed = _competing(points - points.gather(2, own) + ratio, own)
        wanted = _competing(gains[rows] + ratio, own)
        return within + across * functional.cross_entropy(pointed, wanted.softmax(-1))

    return loss_of


def _competing(scores: Tensor, own: Tensor) -> Tensor:
    """Logits `[B, 1 + 10 K]` of "no change", 0, and of every change; none of them to itself."""
    changes = scores.scatter(2, own, -1e9).flatten(1)
    return torch.cat((torch.zeros_like(changes[:, :1]), changes), 1)


def gold_aligned(prompts: Tensor, responses: Tensor, *, seed: int) -> Loss:
    """Cross-entropy of the gradient over digits against the locally right digit of one step.

    The step is a wrong one in 70 % of the rows that have any.
    """
    device = prompts.device
    generator = torch.Generator(device).manual_seed(
        random.Random(f"gold-aligned/{seed}").getrandbits(32)
    )

    def loss_of(guide: Qwen2ForSequenceClassification) -> Tensor:
        rows = torch.randint(len(prompts), (BATCH,), generator=generator, device=device)
        asked, given = prompts[rows], responses[rows]
        wrong = ~corpus.locally_right(asked, given)
        seek_wrong = torch.rand((BATCH, 1), generator=generator, device=device) < WRONG_STEPS
        weight = torch.where(seek_wrong & wrong.any(1, keepdim=True), wrong, ~wrong).float()
        weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, 1.0)
        step = torch.multinomial(weight, 1, generator=generator)
        right = corpus.right_digits(asked, given).gather(1, step).squeeze(1)
        gradient = reward_gradient(guide, asked, given, create_graph=True)
        points = gradient[torch.arange(BATCH, device=device), 2 * step.squeeze(1), DIGIT_IDS]
        return functional.cross_entropy(points, right, ignore_index=-1)

    return loss_of
