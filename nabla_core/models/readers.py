"""Reading responses with LM and reward model: rewards, likelihoods and their gradients.

For a response y_1..y_T with one-hots o_j, loss = -(a log p(y|x) + b r(x, y)), the gradient rows are

    g_j = d loss / d o_j = -(a (E_lm @ s_j + log p(. | y_<j)) + b E_rm @ u_j)

where s_j and u_j are the gradients of log-likelihood and reward with respect to the input
embedding of token j; a is `nll_coeff`, b `reward_coeff`. Only s, u and the hidden states are kept,
`[T, D]` each. A row g_j `[V]` is formed when it is needed (`guides.gradient`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nabla_core.errors import ContextError, NonFiniteError
from nabla_core.models.flops import Shape
from nabla_core.models.forward import Likelihood, Pass, Reading, likelihood, read
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel, RewardModel
from nabla_core.models.pooling import pool_index
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Context
from nabla_core.text.encoding import closes_turn
from nabla_core.text.thinking import before_response, think_block
from nabla_core.types import Cost


@dataclass(eq=False)
class LMRead:
    """A response as the LM reads it, at positions from `start` on.

    `hidden` `[T-start, D]` predicted each token, `likelihood` scores them. `input_gradient`
    `[T-start, D]` is that of the log-likelihood (s_j of the module), or None.
    """

    start: int
    hidden: Tensor
    likelihood: Likelihood
    input_gradient: Tensor | None


@dataclass(eq=False)
class RMRead:
    """A response as a reward model reads it. `input_gradient` `[T-start, D_rm]` is that of the
    reward (u_j of the module), or None."""

    start: int
    reward: float
    input_gradient: Tensor | None
    cache: PrefixCache | None


@dataclass(eq=False)
class Task:
    """One response to read, from position `start` on. `cache` holds a prefix of the sequence.
    `cost` is added up while it is read."""

    context: Context
    tokens: tuple[int, ...]
    start: int = 0
    cache: PrefixCache | None = None
    cost: Cost = field(default_factory=Cost)

    def reading(self, tokens: tuple[int, ...], cached: int) -> Reading:
        """`tokens` to be read, of which at most the first `cached` may come from the cache."""
        return Reading(tokens, self.cache.shared(tokens[:cached]) if self.cache else None)

    def add_cost(self, **cost: float) -> None:
        self.cost += Cost(**cost)  # type: ignore[arg-type]


def strip_stop_token(
    tokenizer: Any, stop: frozenset[int], tokens: tuple[int, ...]
) -> tuple[int, ...]:
    """The response tokens that a reward model reads: without the stop token where other ids close
    the turn, a chat template's for example (the token would come twice)."""
    closed = tokens and tokens[-1] in stop and closes_turn(tokenizer)
    return tokens[:-1] if closed else tokens


class Reader:
    """A reward model together with the map from the LM's tokens to its own."""

    def __init__(self, rm: RewardModel, vocabulary: VocabularyMap, stop: frozenset[int]) -> None:
        self.rm = rm
        self.vocabulary = vocabulary
        self._stop = stop
        self.ids = vocabulary.ids.clamp(min=0).to(rm.device)
        self._think = think_block(rm.tokenizer)

    def body_tokens(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The response tokens that this model reads, in LM ids."""
        return strip_stop_token(self.rm.tokenizer, self._stop, tokens)

    def read(
        self,
        tasks: Sequence[Task],
        frames: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        *,
        gradient: bool,
        return_cache: bool,
        checkpoint: bool = False,
    ) -> list[RMRead]:
        """Rewards of a batch of responses, and with `gradient` their input gradients.

        `frames`: the ids before and after each response without reasoning. Raises EncodingError
        for a token that the model does not know, ContextError where prompt and response do not
        fit, and NonFiniteError.
        """
        bodies = [self.vocabulary.translate(self.body_tokens(t.tokens)) for t in tasks]
        frames = [
            (before_response(self._think, self.rm.tokenizer, before, body), after)
            for (before, after), body in zip(frames, bodies, strict=True)
        ]
        readings = [
            self._reading(task, before, body, after)
            for task, (before, after), body in zip(tasks, frames, bodies, strict=True)
        ]
        with torch.set_grad_enabled(gradient):
            forward = read(
                self.rm,
                readings,
                gradient=gradient,
                return_cache=return_cache,
                checkpoint=checkpoint,
            )
            rewards = self._rewards(forward)
            gradients = None
            if gradient:
                # One backward pass for the batch: a reward depends on its own row alone.
                (gradients,) = torch.autograd.grad(rewards.sum(), forward.embeddings)
        check_finite("reward", rewards)
        replies = []
        for row, (task, body) in enumerate(zip(tasks, bodies, strict=True)):
            before = frames[row][0]
            response_gradient = None
            if gradients is not None:
                response_gradient = _response_gradient(
                    gradients[row], task, before, body, readings[row]
                )
                check_finite("reward gradient", response_gradient)
            cache = forward.prefix_cache(row, len(before) + len(body)) if return_cache else None
            replies.append(RMRead(task.start, rewards[row].item(), response_gradient, cache))
            self._add_cost(task, readings[row], gradient, checkpoint)
        return replies

    def _reading(
        self, task: Task, before: tuple[int, ...], body: list[int], after: tuple[int, ...]
    ) -> Reading:
        tokens = (*before, *body, *after)
        if len(tokens) > self.rm.context:
            raise ContextError(
                f"prompt and response are {len(tokens)} tokens to the reward model, "
                f"whose context is {self.rm.context}"
            )
        # The token that the reward is read at must be fed.
        end = pool_index(tokens, self.rm.pad)
        return task.reading(tokens, min(len(before) + task.start, end))

    def _rewards(self, forward: Pass) -> Tensor:
        """fp32 `[B]`, from one hidden state of each row (`models.pooling`)."""
        # transformers, given embeddings, would take the last column, which is padding in all but
        # the longest row.
        ends_at = [pool_index(r.tokens, self.rm.pad) - r.cached for r in forward.readings]
        last = torch.tensor(ends_at, device=self.rm.device)
        ends = forward.hidden[torch.arange(len(last), device=last.device), last]
        return self.rm.reward(ends)

    def _add_cost(self, task: Task, reading: Reading, gradient: bool, checkpoint: bool) -> None:
        passes = 2 if gradient else 1
        task.add_cost(
            rm_forward=1,
            rm_backward=passes - 1,
            token_passes=reading.fed * passes,
            flops=_body_flops(self.rm.shape, reading, gradient, checkpoint),
        )


def _response_gradient(
    gradient: Tensor, task: Task, before: tuple[int, ...], body: list[int], reading: Reading
) -> Tensor:
    """The part `[T-start, D_rm]` of a row's gradient `[S, D_rm]` that belongs to the response."""
    # A stop token that is not read keeps gradient 0.
    part = torch.zeros(len(task.tokens) - task.start, gradient.size(-1), device=gradient.device)
    first = len(before) + task.start - reading.cached
    end = len(before) + len(body) - reading.cached
    part[: len(body) - task.start] = gradient[first:end].float()
    return part


def read_lm(
    lm: LanguageModel, tasks: Sequence[Task], *, gradient: bool, checkpoint: bool = False
) -> list[LMRead]:
    """Read a batch of responses with the LM; with `gradient` also take the gradient of their
    log-likelihood with respect to the response's input embeddings.

    The last token is never fed: nothing after it is predicted. Raises NonFiniteError.
    """
    readings = [
        # The token before `start` is fed: its hidden state predicts position `start`.
        task.reading((*task.context.lm, *task.tokens)[:-1], len(task.context.lm) - 1 + task.start)
        for task in tasks
    ]
    with torch.set_grad_enabled(gradient):
        forward = read(
            lm,
            readings,
            gradient=gradient,
            return_cache=False,
            checkpoint=checkpoint,
        )
    spans = []
    for task, reading in zip(tasks, readings, strict=True):
        first = len(task.context.lm) - 1 + task.start - reading.cached
        spans.append(slice(first, first + len(task.tokens) - task.start))
    hidden = torch.cat([forward.hidden[row, span] for row, span in enumerate(spans)])
    response_tokens = [t for task in tasks for t in task.tokens[task.start :]]
    targets = torch.tensor(response_tokens, dtype=torch.int64)
    scored = likelihood(lm, hidden.detach(), targets.to(lm.device), gradient=gradient)
    check_finite("log-likelihood", scored.log_probability)
    gradients = None
    if gradient:
        # On through the body, from the gradient with respect to the hidden states.
        assert scored.hidden_gradient is not None
        (gradients,) = torch.autograd.grad(
            hidden, forward.embeddings, scored.hidden_gradient.to(hidden.dtype)
        )
    replies, offset = [], 0
    for row, (task, reading, span) in enumerate(zip(tasks, readings, spans, strict=True)):
        count = len(task.tokens) - task.start
        part = slice(offset, offset + count)
        offset += count
        response_gradient = None
        if gradients is not None:
            response_gradient = torch.zeros(count, gradients.size(-1), device=gradients.device)
            # Token j is fed one column after the one that predicts it. The last token is not fed:
            # its gradient stays 0.
            fed = gradients[row, span.start + 1 : reading.fed].float()
            response_gradient[: fed.size(0)] = fed
            check_finite("likelihood gradient", response_gradient)
        replies.append(
            LMRead(
                task.start,
                hidden[part].detach(),
                scored.part(part),
                response_gradient,
            )
        )
        _add_lm_cost(lm, task, reading, count, gradient, checkpoint)
    return replies


def _add_lm_cost(
    lm: LanguageModel, task: Task, reading: Reading, rows: int, gradient: bool, checkpoint: bool
) -> None:
    passes = 2 if gradient else 1
    task.add_cost(
        lm_forward=1,
        lm_backward=passes - 1,
        token_passes=reading.fed * passes,
        flops=_body_flops(lm.shape, reading, gradient, checkpoint) + lm.shape.head(rows) * passes,
    )


def _body_flops(shape: Shape, reading: Reading, gradient: bool, checkpoint: bool) -> float:
    """With gradient checkpointing the body runs forward once more, in the backward pass."""
    forward = shape.forward(reading.fed, reading.cached)
    if not gradient:
        return forward
    return forward * (2 if checkpoint else 1) + shape.backward(reading.fed, reading.cached)


def check_finite(name: str, values: Tensor) -> None:
    """Raises NonFiniteError where a value is NaN or infinite."""
    if not values.isfinite().all():
        raise NonFiniteError(f"a {name} is not finite")
