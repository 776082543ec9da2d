"""The judge: a reward model that predicts the fraction of a response before its first error.

It has three new layers on a frozen converged LM. The sigmoid of the reward is fitted to that
fraction. An auxiliary head, discarded afterwards, predicts the local correctness of each step
from the states below the last layer. Labels come from the task's arithmetic.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded.recipe import corpus, models
from nabla_core.embedded.recipe.corpus import PROMPT_LENGTH
from nabla_core.embedded.recipe.rollouts import complete
from nabla_core.embedded.recipe.train_lm import Log
from nabla_core.embedded.tokenizer import PAD_ID

LEARNING_RATE = 3e-3
WARMUP = 100
SAMPLES = 6000
TEMPERATURES = (0.0, 0.7, 1.0, 1.3)  # from the greedy response to ones with many errors
# Responses of a step: for the reward, and for the auxiliary head.
LABELLED, LOCAL = 64, 64
# Responses for the reward: a share is sampled from the LM, the others are right ones, of which some
# are corrupted. Truncated ones teach that a sound beginning is not yet a right response.
FROM_LM, CORRUPTED, TRUNCATED = 0.6, 0.3, 0.05
# Share of digits replaced in responses for the auxiliary head, which so sees right and wrong steps
# at every position.
SCRAMBLED = 0.3
LOCAL_WEIGHT = 2.0


class Judge(nn.Module):
    """The reward model in training, with its auxiliary head."""

    def __init__(self, rm: Qwen2ForSequenceClassification) -> None:
        super().__init__()
        self.rm = rm
        size = rm.config.hidden_size
        self.local = nn.Sequential(nn.RMSNorm(size), nn.Linear(size, 1))

    def forward(self, prompts: Tensor, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards `[B]`, and logits `[B, 8]` that each step is locally right."""
        ids = torch.cat((prompts, responses), 1)
        states = self.rm.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        last = (ids != PAD_ID).sum(1) - 1
        pooled = states.last_hidden_state[torch.arange(len(ids), device=ids.device), last]
        # Below the last layer, so that the last one can use local correctness for the reward.
        below = states.hidden_states[-2][:, PROMPT_LENGTH::2]
        return self.rm.score(pooled).squeeze(-1), self.local(below).squeeze(-1)


def sample_pool(lm: Qwen2ForCausalLM, *, seed: int, device: str) -> tuple[Tensor, Tensor]:
    """6,000 train prompts `[N, 17]` and responses of the LM `[N, 16]`, a quarter of them at each
    temperature."""
    rng = random.Random(f"judge/pool/{seed}")
    generator = torch.Generator(device).manual_seed(rng.getrandbits(32))
    prompts, responses = [], []
    for tau in TEMPERATURES:
        texts = corpus.train_chains(rng, SAMPLES // len(TEMPERATURES), skewed=False)
        prompts.append(corpus.encode_prompts(texts).to(device))
        responses.append(complete(lm, prompts[-1], tau=tau, generator=generator))
    return torch.cat(prompts), torch.cat(responses)


def train(
    lm: Qwen2ForCausalLM,
    converged: Qwen2ForCausalLM,
    *,
    seed: int,
    steps: int,
    device: str,
    log: Log,
) -> Qwen2ForSequenceClassification:
    """A judge of the responses of `lm`, trained for `steps` steps on the layers of `converged`."""
    rng = random.Random(f"judge/{seed}")
    torch.manual_seed(rng.getrandbits(32))
    generator = torch.Generator(device).manual_seed(rng.getrandbits(32))
    pool = sample_pool(lm, seed=seed, device=device)
    judge = Judge(models.new_rm(converged)).to(device)
    trained = [parameter for parameter in judge.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    for step in range(1, steps + 1):
        rate = min(1.0, step / WARMUP) * (1 - 0.9 * step / steps)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        prompts, responses = _batch(rng, generator, pool, device)
        rewards, local = judge(prompts, responses)
        target = corpus.sound_fraction(prompts, responses)[:LABELLED]
        right = corpus.locally_right(prompts, responses)[LABELLED:].float()
        reward_loss = functional.binary_cross_entropy_with_logits(rewards[:LABELLED], target)
        local_loss = functional.binary_cross_entropy_with_logits(local[LABELLED:], right)
        optimizer.zero_grad()
        torch.autograd.backward(reward_loss + LOCAL_WEIGHT * local_loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            log(f"step {step} reward loss {reward_loss.item():.3f} local {local_loss.item():.3f}")
    return judge.rm


def _batch(
    rng: random.Random, generator: torch.Generator, pool: tuple[Tensor, Tensor], device: str
) -> tuple[Tensor, Tensor]:
    """64 responses for the reward, then 64 scrambled right responses for the auxiliary head."""
    sampled = round(LABELLED * FROM_LM)
    rows = torch.randint(len(pool[0]), (sampled,), generator=generator, device=device)
    texts = corpus.train_chains(rng, LABELLED - sampled + LOCAL, skewed=False)
    prompts, gold = corpus.encode_prompts(texts).to(device), corpus.encode_gold(texts).to(device)
    known = gold[: LABELLED - sampled]
    draws = torch.rand((2, LABELLED), generator=generator, device=device)
    known = corpus.corrupt(known, draws[0, sampled:] < CORRUPTED, generator)
    labelled = torch.cat((pool[1][rows], known))
    labelled = corpus.truncate(labelled, draws[1] < TRUNCATED, generator)
    scrambled = corpus.scramble(gold[LABELLED - sampled :], SCRAMBLED, generator)
    return torch.cat((pool[0][rows], prompts)), torch.cat((labelled, scrambled))
