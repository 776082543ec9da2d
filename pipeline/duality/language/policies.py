"""The embedded LM as a law over responses, and RL on it.

RLOO in plain torch, with the KL in the reward of a whole response: unbiased for J, so its
optimum is pi*_beta. TRL's trainers put a per-token penalty in the loss (GRPO) or add padding,
truncation and scaling rules of their own; the reference of this stage should have none.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded import task
from nabla_core.embedded.recipe import corpus
from nabla_core.embedded.recipe.models import score
from nabla_core.embedded.recipe.rollouts import complete, response_logits
from nabla_core.embedded.task import STEPS
from nabla_core.embedded.tokenizer import PAD_ID, STOP_ID, ZERO_ID
from nabla_core.embedded.weights import folder
from nabla_core.types import Prompt

BATCH = 2048
MAX_TOKENS = corpus.RESPONSE_LENGTH


@dataclass(frozen=True, eq=False)
class Sample:
    """S responses to each of P prompts: `responses` int64 `[P, S, 16]` (pads after a stop),
    float64 `[P, S]` rewards, log-probabilities under the reference, and under the sampling
    policy where it has any; `answer` `[P, S]` the last digit (10 where there is none);
    `right` and `traces` whether the answer, and every step, is right."""

    responses: Tensor
    reward: Tensor
    log_ref: Tensor
    log_q: Tensor | None
    answer: Tensor
    right: Tensor
    traces: Tensor


class Laboratory:
    """The embedded LM and judge, and P prompts to measure on."""

    def __init__(self, prompts: list[Prompt]) -> None:
        self.prompts = prompts
        texts = [p.text for p in prompts]
        self.ids, self.gold = corpus.encode_prompts(texts), corpus.encode_gold(texts)
        self.lm = Qwen2ForCausalLM.from_pretrained(folder("lm")).eval().requires_grad_(False)
        judge = Qwen2ForSequenceClassification.from_pretrained(folder("judge"))
        self.judge = judge.eval().requires_grad_(False)

    def policy(self, weights: Mapping[str, Tensor]) -> Qwen2ForCausalLM:
        """The LM with other weights."""
        made = copy.deepcopy(self.lm)
        made.load_state_dict(dict(weights))
        return made

    def sample(self, policy: Qwen2ForCausalLM, count: int, generator: torch.Generator) -> Sample:
        """`count` responses of a policy at temperature 1 to each prompt."""
        asked = self.ids.repeat_interleave(count, 0)
        drawn = [
            complete(policy, part, tau=1.0, generator=generator) for part in asked.split(BATCH)
        ]
        found = self.measured(torch.cat(drawn).reshape(len(self.ids), count, -1))
        if policy is self.lm:
            return replace(found, log_q=found.log_ref)
        return replace(found, log_q=self._each(found.responses, policy))

    def measured(self, responses: Tensor) -> Sample:
        """Rewards, likelihoods and grades of responses `[P, S, 16]`."""
        reward = self._each(responses, self.judge)
        if not reward.isfinite().all():
            raise ValueError("a reward is not finite")
        last = responses[:, :, 2 * (STEPS - 1)] - ZERO_ID
        whole = (responses[:, :, 2 * STEPS - 1] == STOP_ID) & (last >= 0) & (last < 10)
        answer = torch.where(whole, last, 10)
        gold = self.gold[:, None]
        right = answer == gold[:, :, 2 * (STEPS - 1)] - ZERO_ID
        traces = (responses == gold).all(-1)
        log_ref = self._each(responses, self.lm)
        return Sample(responses, reward, log_ref, None, answer, right, traces)

    @torch.no_grad()
    def margins(self, responses: Tensor) -> Tensor:
        """How far the LM's best logit is ahead of its second, at every token of responses
        `[P, S, 16]` up to their stops; float32 `[N]`."""
        p, s, _ = responses.shape
        rows = responses.reshape(p * s, -1)
        logits = response_logits(self.lm, self.ids.repeat_interleave(s, 0), rows).float()
        best = logits.topk(2, -1).values
        return (best[..., 0] - best[..., 1])[_said(rows)]

    @torch.no_grad()
    def _each(
        self, responses: Tensor, model: Qwen2ForCausalLM | Qwen2ForSequenceClassification
    ) -> Tensor:
        """A number of every response, each different one computed once. float64 `[P, S]`."""
        p, s, _ = responses.shape
        rows = torch.cat([self.ids[:, None].expand(-1, s, -1), responses], -1).reshape(p * s, -1)
        distinct, back = rows.unique(dim=0, return_inverse=True)
        found = []
        for part in distinct.split(BATCH):
            if isinstance(model, Qwen2ForSequenceClassification):
                found.append(score(model, part))
            else:
                prompts, answers = part.split([self.ids.size(1), responses.size(-1)], 1)
                found.append(log_probability(model, prompts, answers))
        return torch.cat(found).double()[back].reshape(p, s)


def log_probability(lm: Qwen2ForCausalLM, prompts: Tensor, responses: Tensor) -> Tensor:
    """log p(response | prompt) `[B]`, the stop token included, pads after it not."""
    log_p = response_logits(lm, prompts, responses).float().log_softmax(-1)
    chosen = log_p.gather(-1, responses[..., None]).squeeze(-1)
    return (chosen * _said(responses)).sum(1)


def _said(responses: Tensor) -> Tensor:
    """bool, where `[B, 16]` holds tokens: up to the stop and with it."""
    stop = responses == STOP_ID
    return stop.cumsum(1) - stop.long() == 0


@dataclass(frozen=True)
class Rloo:
    """`steps` of `prompts` x `group` responses at a peak learning rate `rate`.

    A step of some hundred responses is too noisy: with 24 x 4 of them J fell (2.10 to 2.04 on
    three prompts at rate 3e-4), with 256 x 4 it rose at the same rate (.25 to .77 on sixty).
    """

    steps: int = 40
    prompts: int = 128
    group: int = 4
    rate: float = 3e-4

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"rloo.group must be at least 2, got {self.group}")


def rloo(
    lm: Qwen2ForCausalLM,
    judge: Qwen2ForSequenceClassification,
    beta: float,
    settings: Rloo,
    *,
    seed: int,
) -> Qwen2ForCausalLM:
    """A policy trained from the LM to maximise E[r] - beta KL on unseen prompts of the
    validation split."""
    policy = copy.deepcopy(lm).requires_grad_(True)
    optimizer = torch.optim.Adam(policy.parameters(), lr=settings.rate)
    generator = torch.Generator().manual_seed(seed)
    wanted = settings.steps * settings.prompts
    texts = [p.text for p in task.prompts(wanted, seed=seed, split="validation")]
    batches = corpus.encode_prompts(texts).split(settings.prompts)
    for step, batch in enumerate(batches):
        progress = step / settings.steps
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * min(
                (step + 1) / 10, 0.5 * (1 + math.cos(math.pi * progress))
            )
        asked = batch.repeat_interleave(settings.group, 0)
        drawn = complete(policy, asked, tau=1.0, generator=generator)
        with torch.no_grad():
            reward = score(judge, torch.cat((asked, drawn), 1))
            log_ref = log_probability(lm, asked, drawn)
        log_p = log_probability(policy, asked, drawn)
        gained = reward - beta * (log_p.detach() - log_ref)
        gained = gained.reshape(-1, settings.group)
        others = (gained.sum(1, keepdim=True) - gained) / (settings.group - 1)
        loss = -((gained - others).flatten() * log_p).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.eval().requires_grad_(False)


def padded(tokens: list[tuple[int, ...]]) -> Tensor:
    """Responses of different lengths as int64 `[N, 16]`."""
    return torch.tensor([[*t, *[PAD_ID] * (MAX_TOKENS - len(t))] for t in tokens])
