"""What the revisions of a trace say as counterfactuals.

A revision, accepted or not, compares two tokens in a response: (taken, its score) and (tried,
its score). Only whole responses are of use: a trace holds its last one as ids and its first as
text. The last one had rejected revisions after the last acceptance, and that acceptance itself
seen from the other side; the first one the revisions up to the first acceptance. What was
tried in responses between them is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nabla_core.guide_training.examples import Record
from nabla_core.methods.counterfactuals import Place
from nabla_core.types import Prompt

Tokens = Callable[[str], Sequence[int]]


def revised(row: Mapping[str, Any], encode: Tokens, left_out: Counter[str]) -> list[Record]:
    """What a trace's revisions say about its last response and its first."""
    revisions = [
        r
        for r in row["revisions"] or []
        if r["reward_after"] is not None and r["from_token"] != r["to_token"]
    ]
    if row["reward"] is None or not revisions:
        return []
    final = tuple(row["response_token_ids"])
    accepted = [n for n, r in enumerate(revisions) if r["accepted"]]
    last = accepted[-1] if accepted else -1
    # What came after the last acceptance in its own batch was tried in the response before.
    late = [r for r in revisions[last + 1 :] if r["reward_before"] == row["reward"]]
    tries = [_pair(r) for r in late if _stands(final, r["position"], r["from_token"])]
    if accepted and _stands(final, revisions[last]["position"], revisions[last]["to_token"]):
        tries.append(_pair(revisions[last], turned=True))
    name = f"{row['prompt_id']}#{row['sample']}"
    found = [Record(name, prompt_of(row), final, row["reward"], _places(tries))] if tries else []
    used = len(tries)
    if accepted:
        first = revisions[: accepted[0] + 1]
        base = _first_response(row, first, encode)
        if base is not None:
            places = _places([_pair(r) for r in first])
            found.append(Record(f"{name} (base)", prompt_of(row), base, row["base_reward"], places))
            used += len(first) - (accepted[0] == last)
    if used < len(revisions):
        left_out["revisions of responses that are not kept"] += len(revisions) - used
    return found


def _stands(response: Sequence[int], position: int, token: int) -> bool:
    return position < len(response) and response[position] == token


def _first_response(
    row: Mapping[str, Any], revisions: Sequence[Mapping[str, Any]], encode: Tokens
) -> tuple[int, ...] | None:
    """The first response's ids, if its text encodes to what its revisions say stood there."""
    ids = tuple(encode(row["base_response"]))
    fits = all(_stands(ids, r["position"], r["from_token"]) for r in revisions)
    return ids if fits else None


_Try = tuple[int, float, int, float, int, float]


def _pair(revision: Mapping[str, Any], *, turned: bool = False) -> _Try:
    taken = (revision["from_token"], revision["reward_before"])
    tried = (revision["to_token"], revision["reward_after"])
    if turned:
        taken, tried = tried, taken
    return (revision["position"], revision["confidence"], *taken, *tried)


def _places(tries: Sequence[_Try]) -> tuple[Place, ...]:
    """Tries by position. The LM's log-probabilities are not kept in traces: 0 stands there."""
    by_position: dict[int, list[_Try]] = {}
    for one in tries:
        by_position.setdefault(one[0], []).append(one)
    return tuple(
        Place(
            position,
            group[0][1],
            (group[0][2], *(g[4] for g in group)),
            (0.0,) * (len(group) + 1),
            (group[0][3], *(g[5] for g in group)),
        )
        for position, group in sorted(by_position.items())
    )


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row of traces or counterfactuals."""
    asked = [t for t in row["prompt"] if t["role"] != "system" or row["system"] is None]
    return Prompt(
        row["prompt_id"],
        tuple({"role": t["role"], "content": t["content"]} for t in asked),
        system=row["system"],
        answer=row["expected_answer"],
        sample=row["sample"],
    )
