"""Rows of a rollout batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.models.flops import Shape
from nabla_core.requests import Rollout
from nabla_core.types import Cost


@dataclass(eq=False)
class Row:
    """A response that is being generated: `tokens` so far, at most `limit` in all. A row with an
    `error` ends with it.

    `prefix_length`: tokens of the request's prefix. `prefilled`: tokens read before the first new
    one. `guide_history`: see `guided_rows`; the guide has read so many whole histories
    (`guide_reads`), and `guide_tokens` in all. `flops` and `seconds` are added up while it runs;
    the LM's decoding is in `cost` alone. `until`: tokens that end it, see `Rollout.until`. `stream`
    is that of the request's key.
    """

    ticket: int
    request: Rollout
    tokens: list[int]
    limit: int
    error: Exception | None = None
    prefix_length: int = 0
    prefilled: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    guide_history: list[int] = field(default_factory=list)
    guide_reads: int = 0
    guide_tokens: int = 0
    until: frozenset[int] = frozenset()
    stream: int = field(init=False)

    def __post_init__(self) -> None:
        self.prefix_length = len(self.tokens)
        self.stream = self.request.key.stream()

    @property
    def at_end_of_step(self) -> bool:
        """Whether the last new token holds the text of `Rollout.until`."""
        return len(self.tokens) > self.prefix_length and self.tokens[-1] in self.until

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.request.context.lm

    @property
    def pending(self) -> int:
        """The token to feed next. Its keys and values are not in the cache yet."""
        return self.tokens[-1] if self.tokens else self.prompt[-1]

    @property
    def read(self) -> tuple[int, ...]:
        """The tokens before the pending one: what the cache must hold."""
        return (*self.prompt, *self.tokens)[:-1]

    def cost(self, shape: Shape) -> Cost:
        """What the response took of an LM of this shape. `lm_forward` and, of a guide,
        `rm_forward` count the reading of the prompt; generated tokens have their own field. A
        guided token is one call of the paper's count, as one that the LM draws alone: no response
        is read again."""
        generated = len(self.tokens) - self.prefix_length
        # One token at a time behind a history is as much as all of them at once.
        behind = len(self.prompt) + self.prefix_length - 1
        decoded = shape.forward(generated, behind) + shape.head(generated)
        return Cost(
            rollouts=1,
            generated_tokens=generated,
            lm_forward=1 if self.prefilled else 0,
            rm_forward=self.guide_reads,
            token_passes=self.prefilled + generated + self.guide_tokens,
            flops=self.flops + decoded,
            paper_calls=generated,
            seconds=self.seconds,
        )
