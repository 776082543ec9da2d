"""The revisions of a trace as counterfactuals.

A revision, accepted or rejected, compares two tokens at a position of a response: the token that
stood there and the token that was tried, each with the score of its response.

Counterfactuals need the whole response. A trace stores the ids of two of them, the last and the
first. So the following revisions can be used:

- of the last response: those rejected after the last acceptance, and that acceptance itself in
  reverse (the old token is the alternative);
- of the first response: those up to and including the first acceptance.

Revisions of the responses in between are counted as left out: whether their tokens were kept is a
setting of the run (`store.candidates`), and what a guide learns must not depend on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nabla_core.guide_training.examples import Record
from nabla_core.methods.counterfactuals import Place
from pipeline.tables.traces import prompt_of


def records_of_trace(row: Mapping[str, Any], left_out: Counter[str]) -> list[Record]:
    """The records of a trace: of its last response and of its first, where they have
    counterfactuals."""
    revisions = [
        r
        for r in row["revisions"] or []
        if r["reward_after"] is not None and r["from_token"] != r["to_token"]
    ]
    if row["reward"] is None or not revisions:
        return []
    name = f"{row['prompt_id']}#{row['sample']}"
    accepted = [n for n, r in enumerate(revisions) if r["accepted"]]
    records: list[Record] = []
    last = _of_last_response(row, revisions, accepted[-1] if accepted else None)
    used = len(last)
    if last:
        tokens = tuple(row["response_token_ids"])
        records.append(Record(name, prompt_of(row), tokens, row["reward"], _places(last)))
    if accepted:
        first = revisions[: accepted[0] + 1]
        base = tuple(row["base_token_ids"])
        if all(_has_token(base, r["position"], r["from_token"]) for r in first):
            places = _places([_Comparison.of(r) for r in first])
            score = row["base_reward"]
            records.append(Record(f"{name} (base)", prompt_of(row), base, score, places))
            # A single acceptance is used from both sides and counted once.
            used += len(first) - 1 if len(accepted) == 1 else len(first)
    if used < len(revisions):
        left_out["revisions of responses that are not kept"] += len(revisions) - used
    return records


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Two tokens at a position of a response: its own and an alternative, with their scores."""

    position: int
    confidence: float
    token: int
    score: float
    alternative: int
    alternative_score: float

    @classmethod
    def of(cls, revision: Mapping[str, Any]) -> _Comparison:
        """Of the response before the revision."""
        return cls(
            position=revision["position"],
            confidence=revision["confidence"],
            token=revision["from_token"],
            score=revision["reward_before"],
            alternative=revision["to_token"],
            alternative_score=revision["reward_after"],
        )

    @classmethod
    def reversed(cls, revision: Mapping[str, Any]) -> _Comparison:
        """Of the response after the revision, which was accepted."""
        return cls(
            position=revision["position"],
            confidence=revision["confidence"],
            token=revision["to_token"],
            score=revision["reward_after"],
            alternative=revision["from_token"],
            alternative_score=revision["reward_before"],
        )


def _of_last_response(
    row: Mapping[str, Any], revisions: Sequence[Mapping[str, Any]], last_accepted: int | None
) -> list[_Comparison]:
    response = row["response_token_ids"]
    start = 0 if last_accepted is None else last_accepted + 1
    # A batch may have more revisions after its accepted one. They were tried in the response
    # before it. Their `reward_before` differs from the reward of the last response.
    after = [r for r in revisions[start:] if r["reward_before"] == row["reward"]]
    comparisons = [
        _Comparison.of(r) for r in after if _has_token(response, r["position"], r["from_token"])
    ]
    if last_accepted is not None:
        last = revisions[last_accepted]
        if _has_token(response, last["position"], last["to_token"]):
            comparisons.append(_Comparison.reversed(last))
    return comparisons


def _has_token(response: Sequence[int], position: int, token: int) -> bool:
    return position < len(response) and response[position] == token


def _places(comparisons: Sequence[_Comparison]) -> tuple[Place, ...]:
    """The comparisons grouped by position. Traces do not store the LM's log-probabilities, so
    these are 0."""
    by_position: dict[int, list[_Comparison]] = {}
    for comparison in comparisons:
        by_position.setdefault(comparison.position, []).append(comparison)
    return tuple(
        Place(
            position=position,
            confidence=group[0].confidence,
            tokens=(group[0].token, *(c.alternative for c in group)),
            log_probabilities=(0.0,) * (len(group) + 1),
            scores=(group[0].score, *(c.alternative_score for c in group)),
        )
        for position, group in sorted(by_position.items())
    )
