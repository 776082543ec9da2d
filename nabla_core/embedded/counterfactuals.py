"""What one other digit would have been worth, by the judge alone: gold-free training data.

In each of the LM's responses a few steps are tried out: every digit there, the tail rolled
out greedily, the judge's score of the whole. It is what the revisions of a trace hold.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded import corpus
from nabla_core.embedded.models import score
from nabla_core.embedded.rollouts import complete, response_logits
from nabla_core.embedded.task import STEPS
from nabla_core.embedded.tokenizer import ZERO_ID

TEMPERATURES = (0.0, 0.5, 0.7, 1.0)
CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Counterfactuals:
    """Responses and what their alternatives scored.

    `prompts` `[N, 17]`, `responses` `[N, 16]`; `rewards` `[N]` the judge's of the responses
    themselves; `steps` `[N, K]` the steps tried, of 0..7; `tried` `[N, K, 10]` the judge's
    score with each digit there; `prior` `[N, K, 10]` the LM's log-probability of each.
    """

    prompts: Tensor
    responses: Tensor
    rewards: Tensor
    steps: Tensor
    tried: Tensor
    prior: Tensor


@torch.no_grad()
def collect(
    lm: Qwen2ForCausalLM,
    judge: Qwen2ForSequenceClassification,
    *,
    samples: int,
    uncertain: int,
    uniform: int,
    seed: int,
    device: str,
) -> Counterfactuals:
    """Try out steps in `samples` responses, equally many at tau 0, .5, .7 and 1.

    In each, `uncertain` steps are drawn with weight (1 - confidence) + .02 and `uniform` ones
    evenly from the rest: a search ranks confident positions too, so they must be known.
    """
    rng = random.Random(f"counterfactuals/{seed}")
    generator = torch.Generator(device).manual_seed(rng.getrandbits(32))
    parts = []
    for tau in TEMPERATURES:
        texts = corpus.train_chains(rng, samples // len(TEMPERATURES), skewed=False)
        for start in range(0, len(texts), CHUNK):
            prompts = corpus.encode_prompts(texts[start : start + CHUNK]).to(device)
            responses = complete(lm, prompts, tau=tau, generator=generator)
            prior = response_logits(lm, prompts, responses).log_softmax(-1)
            prior = prior[:, ::2, ZERO_ID : ZERO_ID + 10]
            weight = 1 - prior.exp().max(-1).values + 0.02
            steps = torch.multinomial(weight, uncertain, generator=generator)
            rest = torch.ones_like(weight).scatter(1, steps, 0.0)
            if uniform:
                more = torch.multinomial(rest, uniform, generator=generator)
                steps = torch.cat((steps, more), 1)
            chosen = steps[..., None].expand(-1, -1, 10)
            parts.append(
                Counterfactuals(
                    prompts,
                    responses,
                    score(judge, torch.cat((prompts, responses), 1)),
                    steps,
                    _try(lm, judge, prompts, responses, steps),
                    prior.gather(1, chosen),
                )
            )
    return Counterfactuals(
        *(torch.cat([getattr(part, name) for part in parts]) for name in Counterfactuals.__slots__)
    )


def _try(
    lm: Qwen2ForCausalLM,
    judge: Qwen2ForSequenceClassification,
    prompts: Tensor,
    responses: Tensor,
    steps: Tensor,
) -> Tensor:
    """Judge scores `[N, K, 10]` with each digit at each of `steps` `[N, K]`."""
    scores = torch.zeros((*steps.shape, 10), device=steps.device)
    digits = torch.arange(ZERO_ID, ZERO_ID + 10, device=steps.device)
    for step in range(STEPS):
        rows, columns = (steps == step).nonzero(as_tuple=True)
        asked = prompts[rows].repeat_interleave(10, 0)
        kept = responses[rows, : 2 * step].repeat_interleave(10, 0)
        begun = torch.cat((kept, digits.repeat(len(rows))[:, None]), 1)
        changed = complete(lm, asked, begun)
        scores[rows, columns] = score(judge, torch.cat((asked, changed), 1)).view(-1, 10)
    return scores
