"""The embedded LM as a law over responses, and the embedded judge as the reward."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded.recipe import corpus
from nabla_core.embedded.recipe.models import rewards
from nabla_core.embedded.recipe.rollouts import complete, response_logits
from nabla_core.embedded.task import STEPS
from nabla_core.embedded.tokenizer import PAD_ID, STOP_ID, ZERO_ID
from nabla_core.embedded.weights import folder
from nabla_core.types import Prompt

BATCH = 2048
MAX_TOKENS = corpus.RESPONSE_LENGTH
NO_ANSWER = 10


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """S responses to each of P prompts, with what the models say about them.

    `responses` int64 `[P, S, 16]`, padded after the stop token; float64 `[P, S]`: `reward`,
    and log-probabilities under the reference and under the sampling policy (`log_q`, None
    where it has no density). `answer` `[P, S]`: the last digit, `NO_ANSWER` where there is
    none; `correct`: whether it is right; `all_steps_correct`: whether every step is right.
    """

    responses: Tensor
    reward: Tensor
    log_ref: Tensor
    log_q: Tensor | None
    answer: Tensor
    correct: Tensor
    all_steps_correct: Tensor


class EmbeddedModels:
    """The embedded LM and judge, and P prompts to measure on. `models`: a folder with another
    pair, trained by the same recipe, in `lm` and `judge`."""

    def __init__(self, prompts: list[Prompt], models: Path | None = None) -> None:
        self.prompts = prompts
        texts = [p.text for p in prompts]
        self.ids, self.gold = corpus.encode_prompts(texts), corpus.encode_gold(texts)
        paths = [models / name if models else folder(name) for name in ("lm", "judge")]
        lm = Qwen2ForCausalLM.from_pretrained(paths[0], trust_remote_code=False)
        self.lm = lm.eval().requires_grad_(False)
        judge = Qwen2ForSequenceClassification.from_pretrained(paths[1], trust_remote_code=False)
        self.judge = judge.eval().requires_grad_(False)

    def policy(self, weights: Mapping[str, Tensor]) -> Qwen2ForCausalLM:
        """The LM with other weights."""
        policy = copy.deepcopy(self.lm)
        policy.load_state_dict(dict(weights))
        return policy

    def sample(self, policy: Qwen2ForCausalLM, count: int, generator: torch.Generator) -> Sample:
        """`count` responses of a policy at temperature 1 to each prompt."""
        prompts = self.ids.repeat_interleave(count, 0)
        batches = [
            complete(policy, batch, tau=1.0, generator=generator) for batch in prompts.split(BATCH)
        ]
        sample = self.evaluate(torch.cat(batches).reshape(len(self.ids), count, -1))
        # The reference's log-probabilities are known already.
        if policy is self.lm:
            return replace(sample, log_q=sample.log_ref)
        return replace(sample, log_q=self._per_response(sample.responses, policy))

    def evaluate(self, responses: Tensor) -> Sample:
        """Rewards, likelihoods and grades of responses `[P, S, 16]`.

        Raises ValueError if a reward is not finite.
        """
        reward = self._per_response(responses, self.judge)
        if not reward.isfinite().all():
            raise ValueError("a reward is not finite")
        # A response alternates digits and separators; the answer is the digit of the last step.
        last = responses[:, :, 2 * (STEPS - 1)] - ZERO_ID
        finished = (responses[:, :, 2 * STEPS - 1] == STOP_ID) & (last >= 0) & (last < 10)
        answer = torch.where(finished, last, NO_ANSWER)
        gold = self.gold[:, None]
        return Sample(
            responses=responses,
            reward=reward,
            log_ref=self._per_response(responses, self.lm),
            log_q=None,
            answer=answer,
            correct=answer == gold[:, :, 2 * (STEPS - 1)] - ZERO_ID,
            all_steps_correct=(responses == gold).all(-1),
        )

    @torch.no_grad()
    def margins(self, responses: Tensor) -> Tensor:
        """The LM's best logit minus its second best, at every token of responses `[P, S, 16]`
        up to the stop token; float32 `[N]`."""
        p, s, _ = responses.shape
        rows = responses.reshape(p * s, -1)
        logits = response_logits(self.lm, self.ids.repeat_interleave(s, 0), rows).float()
        best = logits.topk(2, -1).values
        return (best[..., 0] - best[..., 1])[_token_mask(rows)]

    @torch.no_grad()
    def _per_response(
        self, responses: Tensor, model: Qwen2ForCausalLM | Qwen2ForSequenceClassification
    ) -> Tensor:
        """The judge's reward or the LM's log-probability of every response, float64 `[P, S]`."""
        p, s, _ = responses.shape
        rows = torch.cat([self.ids[:, None].expand(-1, s, -1), responses], -1).reshape(p * s, -1)
        # Thousands of samples of one prompt repeat each other: each response is computed once.
        distinct, index = rows.unique(dim=0, return_inverse=True)
        values = []
        for batch in distinct.split(BATCH):
            if isinstance(model, Qwen2ForSequenceClassification):
                values.append(rewards(model, batch))
            else:
                prompts, answers = batch.split([self.ids.size(1), responses.size(-1)], 1)
                values.append(log_probability(model, prompts, answers))
        return torch.cat(values).double()[index].reshape(p, s)


def log_probability(lm: Qwen2ForCausalLM, prompts: Tensor, responses: Tensor) -> Tensor:
    """log p(response | prompt) `[B]`, with the stop token and without the padding after it."""
    # A KL is a small difference of log-probabilities, so they are computed in float32 at least.
    log_p = response_logits(lm, prompts, responses).float().log_softmax(-1)
    chosen = log_p.gather(-1, responses[..., None]).squeeze(-1)
    return (chosen * _token_mask(responses)).sum(1)


def padded(tokens: list[tuple[int, ...]]) -> Tensor:
    """Responses of different lengths as int64 `[N, 16]`."""
    return torch.tensor([[*t, *[PAD_ID] * (MAX_TOKENS - len(t))] for t in tokens])


def _token_mask(responses: Tensor) -> Tensor:
    """bool `[B, 16]`: True for the tokens up to the stop token, and for the stop token."""
    stop = responses == STOP_ID
    return stop.cumsum(1) - stop.long() == 0
