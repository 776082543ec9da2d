"""The records that go in and out: prompts, traces, and what they are made of.

Frozen dataclasses without tensors: they can be pickled, compared and printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NotRequired, TypedDict

FinishReason = Literal["stop", "length"]


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it.

    `tool_calls` are the calls of an assistant's turn: objects with a `function` that has a `name`
    and `arguments` (an object), or these two themselves. `name` and `tool_call_id` are of a turn
    of the role `tool`, which holds a result.
    """

    role: str
    content: str
    tool_calls: NotRequired[list[dict[str, Any]]]
    name: NotRequired[str]
    tool_call_id: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt to answer; `(id, sample)` identifies it and keys its random draws.

    `messages` is the conversation. `system`, if given, is put in front of it. `answer` is the
    expected answer; no model sees it. `allow_special_tokens`: names of control tokens in the
    conversation become these tokens; otherwise they are encoded as text. `tools` are the functions
    that the model may call, as JSON Schemas; None, and never empty, where there are none.
    """

    id: str
    messages: tuple[Message, ...]
    system: str | None = None
    answer: str | None = None
    sample: int = 0
    allow_special_tokens: bool = False
    tools: tuple[Mapping[str, Any], ...] | None = None

    @classmethod
    def of(cls, text: str, *, id: str, answer: str | None = None, sample: int = 0) -> Prompt:
        """A prompt of one user turn."""
        return cls(id, ({"role": "user", "content": text},), answer=answer, sample=sample)

    def without_tools(self) -> Prompt:
        """The prompt for a model that is not told of its tools."""
        return self if self.tools is None else replace(self, tools=None)

    @property
    def text(self) -> str:
        """The last user turn. The results of tools may follow it."""
        turns = (turn for turn in reversed(self.messages) if turn["role"] == "user")
        return next(turns, self.messages[-1])["content"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model: its name without a machine's path, and its revision (a hub commit or a digest).

    `nabla_core.models.identity` makes the identities of loaded models.
    """

    name: str
    revision: str

    @property
    def digested(self) -> bool:
        """Whether the revision is a digest of a folder. A digest identifies the model whatever
        its name is; a hub commit belongs to the repository in the name."""
        return self.revision.startswith("sha256:")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a trace cost. Every model pass counts, also those of rejected proposals.

    A pass is one sequence through one model once. `token_passes` counts tokens fed through
    a model, forward and backward each once. `flops` is estimated (see `nabla_core.models.flops`).
    `paper_calls` is the paper's own count: 1 per sampled token, 4 per gradient sweep, 2 per
    acceptance test, 1 per other reward. `seconds` is the trace's share of engine time: the
    seconds of a batch are divided equally among its rows.
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
        # Field by field: costs are added for every request.
        return Cost(
            self.rollouts + other.rollouts,
            self.generated_tokens + other.generated_tokens,
            self.lm_forward + other.lm_forward,
            self.lm_backward + other.lm_backward,
            self.rm_forward + other.rm_forward,
            self.rm_backward + other.rm_backward,
            self.token_passes + other.token_passes,
            self.flops + other.flops,
            self.paper_calls + other.paper_calls,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One proposed change of one token, and whether it was accepted.

    `confidence` is the LM's top probability at `position` (None where it was not computed).
    `grad_norm` is the L2 norm of the guide's row there (0 without a guide). `advantage` is what
    the guide predicted the reward to change by, in units of the objective: g[from] - g[to] of a
    gradient guide, the difference of the outputs of a head. Rewards are the judge's, of the
    whole response. `reward_after` is None where the judge cannot read the new response (it is
    too long, or has a token that the judge does not know); such a proposal is rejected.

    `tail_token_ids` are the tokens of the new response from `position` on, `to_token` first. Those
    before it are of the response that the proposal was made for, whose reward is `reward_before`:
    the present one, or of a batch with `take: best` the one before its accepted revision.

    `spent` is the cost of the trace up to this proposal's rewards: with `speculate: 1` or
    `take: first` what a search that ends here would have cost, its batch included. None where it
    is not known.
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
    tail_token_ids: tuple[int, ...]
    # Not compared: a prompt that several rollouts start from is read once, in one of them.
    spent: Cost | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A response and how it was found. `base_text` is the first response of the search.

    `tokens` are LM ids, the stop token included where `finish_reason` is "stop"; `text`
    is their decoding without special tokens; `base_tokens` are those of the base response.
    Rewards are the judge's raw scores.

    `log_probabilities` (nats) are the LM's own of `tokens`, at temperature 1, where the search read
    the response with the LM: None where the last response was not read. An entry is None at a
    token that the search did not read: left to right, those that it put in.
    """

    prompt_id: str
    sample: int
    prompt_text: str
    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    base_text: str
    base_tokens: tuple[int, ...]
    base_reward: float | None
    reward: float | None
    revisions: tuple[Revision, ...]
    seed: int
    log_probabilities: tuple[float | None, ...] | None = None
    cost: Cost = field(default_factory=Cost)
