"""How a trace's response came to be: its tokens after each accepted revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Step:
    """The tokens of a response. `position`: of the token that the revision put in, None in the
    first response. `replaced`: the position of the token that the next accepted revision replaces,
    None in the last response."""

    ids: tuple[int, ...]
    reward: float | None
    position: int | None = None
    replaced: int | None = None


def steps_of(row: Mapping[str, Any]) -> list[Step]:
    """The first response and what each accepted revision made of it, in order. Empty where the row
    does not hold the tokens: `store.candidates` left them out, or the method makes no revisions."""
    accepted = [r for r in row["revisions"] or () if r["accepted"]]
    if any(r["tail_token_ids"] is None for r in accepted) or row["base_token_ids"] is None:
        return []
    ids, reward, position = tuple(row["base_token_ids"]), row["base_reward"], None
    steps: list[Step] = []
    for revision in accepted:
        at = revision["position"]
        steps.append(Step(ids=ids, reward=reward, position=position, replaced=at))
        ids, position = (*ids[:at], *revision["tail_token_ids"]), at
        reward = revision["reward_after"]
    steps.append(Step(ids=ids, reward=reward, position=position))
    return steps if ids == tuple(row["response_token_ids"]) else []
