"""What the embedded models achieve: how well rewards verify, and where gradients point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded.recipe import corpus
from nabla_core.embedded.recipe.corpus import PROMPT_LENGTH
from nabla_core.embedded.recipe.models import rewards, rewards_of_embeddings
from nabla_core.embedded.recipe.rollouts import complete, response_logits
from nabla_core.embedded.recipe.train_lm import shares, validation
from nabla_core.embedded.tokenizer import ZERO_ID

DIGIT_IDS = slice(ZERO_ID, ZERO_ID + 10)


@dataclass(frozen=True, slots=True)
class Verification:
    """`auc` of the reward for the correctness of a trace; accuracies of the best of 8 by reward."""

    auc: float
    best_of_8_answer: float
    best_of_8_trace: float


@torch.no_grad()
def verification(
    rm: Qwen2ForSequenceClassification, lm: Qwen2ForCausalLM, *, prompts: int = 1000
) -> Verification:
    """Measure a reward model on 8 samples at temperature 0.7 of each of the first validation
    prompts."""
    device = str(lm.device)
    texts, gold = validation(prompts, device)
    generator = torch.Generator(device).manual_seed(0)
    repeated = texts.repeat_interleave(8, 0)
    responses = complete(lm, repeated, tau=0.7, generator=generator)
    values = rewards(rm, torch.cat((repeated, responses), 1))
    right = (responses == gold.repeat_interleave(8, 0)).all(1)
    rows = torch.arange(prompts, device=device) * 8 + values.view(prompts, 8).argmax(1)
    return Verification(area_under_curve(values, right), *shares(responses[rows], gold))


def area_under_curve(values: Tensor, positive: Tensor) -> float:
    """Share of pairs (positive, negative) in which the positive has the higher value; ties count
    half."""
    pairs = values[positive][:, None] - values[~positive]
    return ((pairs > 0).float() + 0.5 * (pairs == 0).float()).mean().item()


def reward_gradient(
    rm: Qwen2ForSequenceClassification, prompts: Tensor, responses: Tensor, *, create_graph: bool
) -> Tensor:
    """d reward / d one-hot at each position of a response, `[B, 16, V]`: `E @ d reward / d e_i`.

    With `create_graph` the result can be differentiated again, with respect to the weights.
    """
    ids = torch.cat((prompts, responses), 1)
    embedding = rm.model.embed_tokens.weight
    embedded = embedding[ids].detach().requires_grad_()
    total = rewards_of_embeddings(rm, embedded, ids).sum()
    # Each reward depends on its own row alone, so the gradient of the sum is that of each reward.
    (gradient,) = torch.autograd.grad(total, embedded, create_graph=create_graph)
    rows: Tensor = gradient[:, PROMPT_LENGTH:] @ embedding.T
    return rows


@dataclass(frozen=True, slots=True)
class Pointing:
    """Share of first errors at which the right digit ranks first among the nine other digits.

    `gradient`: ranked by the reward gradient alone (chance: 0.111); `prior`: by the LM's
    log-probability alone; `with_prior`: by their sum. `errors` is the number of first errors.
    """

    gradient: float
    with_prior: float
    prior: float
    errors: int


def pointing(
    rm: Qwen2ForSequenceClassification,
    lm: Qwen2ForCausalLM,
    *,
    prompts: int = 2000,
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
) -> Pointing:
    """Measure a guide at the first errors of greedy responses. For `with_prior` the gradient is
    multiplied by the best of `scales`."""
    texts, _ = validation(prompts, str(lm.device))
    responses = complete(lm, texts)
    sound = corpus.locally_right(texts, responses)
    well_formed = (responses[:, ::2] >= ZERO_ID) & (responses[:, ::2] < ZERO_ID + 10)
    # Responses with an error, in which every value is a digit, so that "another digit" is defined.
    rows = ((~sound).any(1) & well_formed.all(1)).nonzero().squeeze(1)
    texts, responses = texts[rows], responses[rows]
    step = (~sound[rows]).int().argmax(1)  # the first error: argmax returns the first maximum
    right = corpus.right_digits(texts, responses).gather(1, step[:, None]).squeeze(1)
    each = torch.arange(len(rows), device=rows.device)
    gradient = reward_gradient(rm, texts, responses, create_graph=False)
    gradient = gradient[each, 2 * step, DIGIT_IDS]
    with torch.no_grad():
        prior = response_logits(lm, texts, responses)[each, 2 * step, DIGIT_IDS].log_softmax(-1)
    taken = responses[each, 2 * step] - ZERO_ID

    def top(scores: Tensor) -> float:
        best = scores.scatter(1, taken[:, None], float("-inf")).argmax(1)
        return (best == right).float().mean().item()

    both = max(top(scale * gradient + prior) for scale in scales)
    return Pointing(top(gradient), both, top(prior), len(rows))
