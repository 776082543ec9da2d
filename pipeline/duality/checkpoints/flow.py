"""One prompt of part checkpoints: a response of either model, its log-probability under both,
and its reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nabla_core.config import Sampling
from nabla_core.draws import DrawKey
from nabla_core.embedded.weights import model_location
from nabla_core.engines.base import BatchEngine
from nabla_core.engines.loading import device_of
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.errors import VocabularyError
from nabla_core.model_config import LM
from nabla_core.models.loading import LanguageModel, load_language_model
from nabla_core.models.readers import Task, read_lm
from nabla_core.requests import (
    Context,
    Decode,
    Flow,
    Render,
    Reply,
    Request,
    Result,
    Rollout,
    Score,
    ask,
)
from nabla_core.types import Prompt, Trace

# The law of the model itself: no temperature, no truncation.
UNFILTERED = Sampling(temperature=1.0)


@dataclass(frozen=True, slots=True)
class PolicyRollout(Rollout):
    """A rollout by the policy. A plain `Rollout` is one by the reference."""


@dataclass(frozen=True, slots=True)
class ReferenceLikelihood(Request[float]):
    """log p(tokens | prompt) under the reference."""

    context: Context
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PolicyLikelihood(ReferenceLikelihood):
    """log p(tokens | prompt) under the policy."""


@dataclass(frozen=True, slots=True)
class MeasuredResponse(Trace):
    """A response with its log-probability under both models."""

    log_ref: float = 0.0
    log_policy: float = 0.0


class PolicyRollouts(RolloutEngine):
    """Serves `PolicyRollout`."""

    kinds: tuple[type[Request[Any]], ...] = (PolicyRollout,)


class Likelihoods(BatchEngine):
    """Serves one kind of likelihood request with one LM."""

    def __init__(
        self, lm: LanguageModel, kind: type[Request[Any]], capacity: int, max_batch_tokens: int
    ) -> None:
        super().__init__(capacity, max_batch_tokens)
        self.kinds = (kind,)
        self._lm = lm

    def size(self, request: ReferenceLikelihood) -> int:
        return len(request.context.lm) + len(request.tokens)

    @torch.no_grad()
    def answer(self, requests: Sequence[ReferenceLikelihood]) -> Sequence[Result]:
        tasks = [Task(r.context, r.tokens) for r in requests]
        # A sum over a long response is taken in float64: KL is a small difference of large sums.
        reads = read_lm(self._lm, tasks, gradient=False)
        return [
            Reply(float(read.likelihood.log_probability.double().sum()), task.cost)
            for read, task in zip(reads, tasks, strict=True)
        ]


def measure_response(prompt: Prompt, *, of_policy: bool, seed: int, max_tokens: int) -> Flow:
    """Draw a response at temperature 1 from one of the models; compute its log-probability under
    both models and its reward."""
    context = yield from ask(Render(prompt))
    # Samples of the two models have different numbers, so their draws are independent.
    key = DrawKey(seed, prompt.id, prompt.sample, "rollout 0")
    kind = PolicyRollout if of_policy else Rollout
    response = yield from ask(kind(context, (), max_tokens, UNFILTERED, key))
    # Scored as tokens: a text that is decoded and encoded again can be other tokens.
    judged = yield from ask(Score(context, response.tokens))
    log_ref = yield from ask(ReferenceLikelihood(context, response.tokens))
    log_policy = yield from ask(PolicyLikelihood(context, response.tokens))
    (text,) = yield from ask(Decode((response.tokens,)))
    return MeasuredResponse(
        prompt_id=prompt.id,
        sample=prompt.sample,
        prompt_text=context.text,
        text=text,
        tokens=response.tokens,
        finish_reason=response.finish,
        base_text=text,
        base_reward=judged.reward,
        reward=judged.reward,
        revisions=(),
        seed=seed,
        log_ref=log_ref,
        log_policy=log_policy,
    )


def load_lm(lm: LM, device: str, dtype: str) -> LanguageModel:
    """Load the reference or the policy. Raises ModelError."""
    path = model_location(lm.path, "lm")
    kind = torch.float32 if dtype == "float32" else torch.bfloat16
    return load_language_model(path, revision=lm.revision, device=device_of(device), dtype=kind)


def check_same_tokenizer(reference: LanguageModel, policy: LanguageModel) -> None:
    """Raises VocabularyError where the models differ in tokenizer, chat template or stop tokens.

    A KL compares the probabilities of the same token sequences.
    """
    ours, theirs = reference.tokenizer, policy.tokenizer
    pair = f"{reference.source} and {policy.source}"
    vocabulary, other = ours.get_vocab(), theirs.get_vocab()
    if vocabulary != other:
        different = sorted(vocabulary.keys() ^ other.keys()) or [
            token for token in vocabulary if vocabulary[token] != other[token]
        ]
        raise VocabularyError(
            f"the tokenizers of reference and policy ({pair}) differ, first at {different[0]!r}; "
            "their responses cannot be compared token by token"
        )
    if ours.chat_template != theirs.chat_template:
        raise VocabularyError(f"the chat templates of reference and policy ({pair}) differ")
    if reference.stop != policy.stop:
        raise VocabularyError(
            f"the stop tokens of reference and policy ({pair}) differ: "
            f"{sorted(reference.stop)} and {sorted(policy.stop)}"
        )
