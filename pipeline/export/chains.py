"""The responses of a search, from the revisions of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Tokens = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """An accepted revision: the tokens of the response before and after it, with rewards."""

    before: Tokens
    after: Tokens
    reward_before: float
    reward_after: float


def steps(row: Mapping[str, Any]) -> Iterator[Step]:
    """The accepted revisions of a trace in order. Ends at the first whose tokens were not kept
    (`store.candidates: none`)."""
    response: Tokens = tuple(row["base_token_ids"])
    for revision in row["revisions"] or ():
        if not revision["accepted"]:
            continue
        if revision["tail_token_ids"] is None:
            return
        after = (*response[: revision["position"]], *revision["tail_token_ids"])
        yield Step(
            before=response,
            after=after,
            reward_before=revision["reward_before"],
            reward_after=revision["reward_after"],
        )
        response = after


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The response of a proposal, accepted or not, with its reward."""

    tokens: Tokens
    reward: float
    accepted: bool


def candidates(row: Mapping[str, Any]) -> Iterator[Candidate]:
    """The responses of all proposals that the judge could read, in order. Those whose tokens were
    not kept (`store.candidates`) are left out, and all behind an accepted one of them."""
    response = previous = tuple(row["base_token_ids"])
    accepted: Mapping[str, Any] | None = None
    for revision in row["revisions"] or ():
        if revision["tail_token_ids"] is None:
            if revision["accepted"]:
                return
            continue
        # A batch with `take: best` may have more proposals behind its accepted one; they were made
        # for the response before it.
        late = accepted is not None and (
            revision["reward_before"] == accepted["reward_before"] != accepted["reward_after"]
        )
        start = previous if late else response
        tokens = (*start[: revision["position"]], *revision["tail_token_ids"])
        if revision["reward_after"] is not None:
            yield Candidate(
                tokens=tokens, reward=revision["reward_after"], accepted=revision["accepted"]
            )
        if revision["accepted"]:
            previous, response, accepted = response, tokens, revision
