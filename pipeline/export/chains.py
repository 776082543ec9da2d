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
