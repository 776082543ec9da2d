"""The engines of part checkpoints: reference, policy and judge, and their likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nabla_core.embedded.weights import model_location
from nabla_core.engines.base import BatchEngine, Engines
from nabla_core.engines.loading import device_of, reader_for
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.engines.score import ScoreEngine
from nabla_core.engines.text import TextEngine
from nabla_core.errors import VocabularyError
from nabla_core.model_config import LM
from nabla_core.models.loading import LanguageModel, load_language_model, load_reward_model
from nabla_core.models.readers import Task, read_lm
from nabla_core.requests import Reply, Request, Result
from pipeline.duality.checkpoints.config import CheckpointsConfig
from pipeline.duality.checkpoints.flow import PolicyLikelihood, PolicyRollout, ReferenceLikelihood
from pipeline.duality.checkpoints.models import model_folders
from pipeline.run.dtype import require_same_dtype


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


def open_engines(settings: CheckpointsConfig) -> Engines:
    """Load the three models and build the engines of a worker. Raises ModelError, and
    VocabularyError where reference and policy have different tokenizers."""
    runtime = settings.runtime
    require_same_dtype(runtime, str(device_of(runtime.device)), model_folders(settings))
    reference = load_lm(settings.reference, runtime.device, runtime.dtype)
    policy = load_lm(settings.policy, runtime.device, runtime.dtype)
    # Before the judge is loaded: a wrong pair is refused early.
    check_same_tokenizer(reference, policy)
    judge = load_reward_model(
        model_location(settings.reward.required_judge, "judge"),
        revision=settings.reward.judge_revision,
        device=reference.device,
        dtype=reference.table.dtype,
    )
    reader = reader_for(judge, reference, settings.reward.min_coverage)
    rows, tokens = runtime.max_batch, runtime.max_batch_tokens
    # No cache is returned: nothing continues a response, so prefixes need not be kept.
    return Engines(
        TextEngine(reference, judge, judge),
        ScoreEngine(reader, rows, tokens, return_cache=False),
        Likelihoods(reference, ReferenceLikelihood, rows, tokens),
        Likelihoods(policy, PolicyLikelihood, rows, tokens),
        RolloutEngine(reference, rows, tokens, return_cache=False),
        PolicyRollouts(policy, rows, tokens, return_cache=False),
        identities={
            "reference": reference.identity,
            "policy": policy.identity,
            "judge": judge.identity,
        },
    )


def load_lm(lm: LM, device: str, dtype: str) -> LanguageModel:
    """Load the reference or the policy. Raises ModelError."""
    path = model_location(lm.path, "lm")
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
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
