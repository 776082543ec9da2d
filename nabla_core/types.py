"""The records that travel: a prompt goes in, a trace comes out.

Plain frozen dataclasses, no tensors: they pickle, compare and print.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Literal, TypedDict

FinishReason = Literal["stop", "length"]


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt to answer; `(id, sample)` identifies it and keys its random draws.

    `messages` is the conversation; a bare string is one user turn. `system` is put in
    front of it where given. `answer` is the expected answer, never shown to a model.
    """

    id: str
    messages: tuple[Message, ...]
    system: str | None = None
    answer: str | None = None
    sample: int = 0

    @classmethod
    def of(cls, text: str, *, id: str, answer: str | None = None, sample: int = 0) -> Prompt:
        """A prompt of one user turn."""
        return cls(id, ({"role": "user", "content": text},), answer=answer, sample=sample)

    @property
    def text(self) -> str:
        """The last user turn."""
        return self.messages[-1]["content"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model: its name without a machine's path, and its revision (a hub commit or a digest).

    `nabla_core.models.identity` makes the identities of loaded models.
    """

    name: str
    revision: str

    @property
    def digested(self) -> bool:
        """Whether the revision alone says which model it is, whatever its name: it is a digest of
        a folder. A hub's revision may be the "main" of any model."""
        return self.revision.startswith("sha256:")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a trace cost, every model pass counted, the selector's and rejected work too.

    A pass is one sequence through one model once. `token_passes` counts tokens fed through
    a model, forward and backward each once. `flops` is estimated (see `nabla_core.models.flops`).
    `paper_calls` is the paper's own count: 1 per sampled token, 4 per gradient sweep, 2 per
    acceptance test, 1 per other reward. `seconds` is the trace's share of engine time: a
    batch's seconds divided equally among its rows.
    """

    rollouts: int = 0
    generated_tokens: int = 0
    lm_forward: int = 0
    lm_backward: int = 0
    rm_forward: int = 0
    rm_backward: int = 0
    token_passes: int = 0
    flops: float = 0.0
    paper_calls: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(_flat(self), _flat(other), strict=True)
        return Cost(*(mine + theirs for mine, theirs in pairs))


_flat = attrgetter(*(f.name for f in fields(Cost)))


@dataclass(frozen=True, slots=True)
class Revision:
    """One proposed change of one token and what came of it.

    `confidence` is the LM's top probability at `position` (None where nobody looked),
    `grad_norm` the L2 norm of the gradient row there (0 where no gradient was taken),
    `advantage` the first-order change of `-loss` when `from_token` becomes `to_token`
    (with a head as guide: of the predicted advantages, and what the head predicts). Rewards
    are the judge's; `reward_after` is None where the judge cannot read what came of it (too
    long, or a token that it does not know), which is rejected.
    """

    position: int
    from_token: int
    to_token: int
    from_text: str
    to_text: str
    confidence: float | None
    grad_norm: float
    advantage: float
    reward_before: float
    reward_after: float | None
    accepted: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """A refined response and how it came to be.

    `tokens` are LM ids, the stop token included where `finish_reason` is "stop"; `text`
    is their decoding without special tokens. Rewards are the judge's raw scores.
    """

    prompt_id: str
    sample: int
    prompt_text: str
    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    base_text: str
    base_reward: float | None
    reward: float | None
    revisions: tuple[Revision, ...]
    seed: int
    cost: Cost = field(default_factory=Cost)
