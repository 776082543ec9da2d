"""The gradient guide: what LM and reward model say about every replacement of every token.

For a response y_1..y_T (one-hots o_j), loss = -(a log p(y|x) + b r(x, y)) and

    g_j = d loss / d o_j = -(a (E_lm @ s_j + log p(. | y_<j)) + b E_rm @ u_j)

with s_j, u_j the gradients of log-likelihood and reward with respect to the input embedding
of token j. Only s, u and the hidden states are kept, `[T, D]` each; a row g_j `[V]` is
formed when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nabla_core.errors import ContextError, NonFiniteError
from nabla_core.models.flops import Shape
from nabla_core.models.forward import Likelihood, Reading, likelihood, read
from nabla_core.models.kv_cache import Memory
from nabla_core.models.loading import LanguageModel, RewardModel
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Context
from nabla_core.types import Cost


@dataclass(eq=False)
class LMRead:
    """A response as the LM sees it, at positions from `start` on: `hidden` `[T-start, D]`
    predicted each token, `says` scores them."""

    start: int
    hidden: Tensor
    says: Likelihood
    slope: Tensor | None


@dataclass(eq=False)
class RMRead:
    """A response as a reward model sees it; `slope` `[T-start, D_rm]` where asked for."""

    start: int
    reward: float
    slope: Tensor | None
    memory: Memory | None


@dataclass(eq=False)
class Task:
    """One response to read. `memory` holds part of the sequence already."""

    context: Context
    tokens: tuple[int, ...]
    start: int = 0
    memory: Memory | None = None
    cost: Cost = field(default_factory=Cost)

    def book(self, **cost: float) -> None:
        self.cost += Cost(**cost)  # type: ignore[arg-type]


def spoken(tokenizer: Any, stop: frozenset[int], tokens: tuple[int, ...]) -> tuple[int, ...]:
    """The response tokens a model reads: a template closes the turn by itself, so the stop
    token would come twice."""
    closed = tokenizer.chat_template and tokens and tokens[-1] in stop
    return tokens[:-1] if closed else tokens


class Reader:
    """A reward model together with the map from the LM's tokens to its own."""

    def __init__(self, rm: RewardModel, vocabulary: VocabularyMap, stop: frozenset[int]) -> None:
        self.rm = rm
        self.vocabulary = vocabulary
        self._stop = stop
        self.ids = vocabulary.ids.clamp(min=0).to(rm.device)

    def body_tokens(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The response tokens this model reads."""
        return spoken(self.rm.tokenizer, self._stop, tokens)

    def read(
        self,
        tasks: Sequence[Task],
        frames: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        *,
        gradient: bool,
        keep: bool,
        checkpoint: bool = False,
    ) -> list[RMRead]:
        """Rewards, and with `gradient` their slopes, of a batch of responses.

        `frames` are the ids before and after each response. Raises ContextError where a
        framed response does not fit; NonFiniteError where a number is not finite.
        """
        bodies = [self.vocabulary.translate(self.body_tokens(t.tokens)) for t in tasks]
        readings = []
        for task, (before, after), body in zip(tasks, frames, bodies, strict=True):
            tokens = (*before, *body, *after)
            if len(tokens) > self.rm.context:
                raise ContextError(
                    f"prompt and response are {len(tokens)} tokens to the reward model, "
                    f"whose context is {self.rm.context}"
                )
            memory = task.memory.shared(tokens[: len(before) + task.start]) if task.memory else None
            readings.append(Reading(tokens, memory if memory and memory.length else None))
        with torch.set_grad_enabled(gradient):
            done = read(
                self.rm.body,
                self.rm.table,
                readings,
                gradient=gradient,
                keep=keep,
                checkpoint=checkpoint,
            )
            last = torch.tensor([r.fed - 1 for r in readings], device=self.rm.device)
            ends = done.hidden[torch.arange(len(tasks), device=last.device), last]
            rewards = self.rm.score(ends).float().squeeze(-1)
            slopes = None
            if gradient:
                (slopes,) = torch.autograd.grad(rewards.sum(), done.embeddings)
        replies = []
        for row, (task, reading) in enumerate(zip(tasks, readings, strict=True)):
            before, body = frames[row][0], bodies[row]
            slope = None
            if slopes is not None:
                slope = torch.zeros(
                    len(task.tokens) - task.start, slopes.size(-1), device=slopes.device
                )
                first = len(before) + task.start - reading.held
                slope[: len(body) - task.start] = slopes[
                    row, first : len(before) + len(body) - reading.held
                ].float()
            memory = done.memory(row, len(before) + len(body)) if keep else None
            replies.append(RMRead(task.start, rewards[row].item(), slope, memory))
            self._book(task, reading, gradient, checkpoint)
        check_finite("reward", [r.reward for r in replies])
        if gradient:
            check_finite("reward gradient", [r.slope for r in replies if r.slope is not None])
        return replies

    def _book(self, task: Task, reading: Reading, gradient: bool, checkpoint: bool) -> None:
        passes = 2 if gradient else 1
        task.book(
            rm_forward=1,
            rm_backward=passes - 1,
            token_passes=reading.fed * passes,
            flops=_body_flops(self.rm.shape, reading, gradient, checkpoint),
        )


def read_lm(
    lm: LanguageModel, tasks: Sequence[Task], *, gradient: bool, checkpoint: bool = False
) -> list[LMRead]:
    """The LM's view of a batch of responses, and with `gradient` the slopes of their
    log-likelihood with respect to the response's input embeddings.

    The last token is never fed: nothing after it is predicted.
    """
    readings = []
    for task in tasks:
        tokens = (*task.context.lm, *task.tokens)[:-1]
        held = len(task.context.lm) - 1 + task.start
        memory = task.memory.shared(tokens[:held]) if task.memory else None
        readings.append(Reading(tokens, memory if memory and memory.length else None))
    with torch.set_grad_enabled(gradient):
        done = read(
            lm.body, lm.table, readings, gradient=gradient, keep=False, checkpoint=checkpoint
        )
    spans = []
    for task, reading in zip(tasks, readings, strict=True):
        first = len(task.context.lm) - 1 + task.start - reading.held
        spans.append(slice(first, first + len(task.tokens) - task.start))
    hidden = torch.cat([done.hidden[row, span] for row, span in enumerate(spans)])
    ahead = [t for task in tasks for t in task.tokens[task.start :]]
    wanted = torch.tensor(ahead, dtype=torch.int64)
    says = likelihood(lm, hidden.detach(), wanted.to(lm.device), slope=gradient)
    slopes = None
    if gradient:
        assert says.slope is not None
        (slopes,) = torch.autograd.grad(hidden, done.embeddings, says.slope.to(hidden.dtype))
    replies, offset = [], 0
    for row, (task, reading, span) in enumerate(zip(tasks, readings, spans, strict=True)):
        count = len(task.tokens) - task.start
        here = slice(offset, offset + count)
        offset += count
        slope = None
        if slopes is not None:
            slope = torch.zeros(count, slopes.size(-1), device=slopes.device)
            fed = slopes[row, span.start + 1 : reading.fed].float()
            slope[: fed.size(0)] = fed
        part = Likelihood(
            says.log_probability[here],
            says.confidence[here],
            says.entropy[here],
            says.top[here],
            None,
        )
        replies.append(LMRead(task.start, hidden[here].detach(), part, slope))
        _book_lm(lm, task, reading, count, gradient, checkpoint)
    check_finite("log-likelihood", [r.says.log_probability for r in replies])
    if gradient:
        check_finite("likelihood gradient", [r.slope for r in replies if r.slope is not None])
    return replies


def _book_lm(
    lm: LanguageModel, task: Task, reading: Reading, rows: int, gradient: bool, checkpoint: bool
) -> None:
    passes = 2 if gradient else 1
    task.book(
        lm_forward=1,
        lm_backward=passes - 1,
        token_passes=reading.fed * passes,
        flops=_body_flops(lm.shape, reading, gradient, checkpoint) + lm.shape.head(rows) * passes,
    )


def _body_flops(shape: Shape, reading: Reading, gradient: bool, checkpoint: bool) -> float:
    """Checkpointed layers run forward once more on the way back."""
    forward = shape.forward(reading.fed, reading.held)
    if not gradient:
        return forward
    return forward * (2 if checkpoint else 1) + shape.backward(reading.fed, reading.held)


def check_finite(what: str, values: Sequence[float | Tensor]) -> None:
    """Raises NonFiniteError."""
    for value in values:
        if not torch.as_tensor(value).isfinite().all():
            raise NonFiniteError(f"a {what} is not finite")
