"""A row of the table of traces as the page shows it: plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.report.tokens import TokenTexts
from pipeline.tables.traces import turns_of

Row = Mapping[str, Any]

# Shown as they are.
_AS_IS = (
    *("sample", "error", "system", "response", "finish_reason", "reward", "method", "seed"),
    *("expected_answer", "predicted_answer", "correct", "base_correct", "attempt", "worker"),
    *("base_response", "base_reward", "rendered_prompt", "cost"),
)
_MODELS = ("generation", "judge", "guide")


def record(row: Row) -> dict[str, Any]:
    """What the page shows of a row."""
    return {
        "id": row["prompt_id"],
        **{name: row[name] for name in _AS_IS},
        "messages": turns_of(row["prompt"] or []),
        "tools": None if row["tools"] is None else json.loads(row["tools"]),
        "ids": row["response_token_ids"],
        "logp": _rounded(row["response_log_probabilities"]),
        "base_ids": row["base_token_ids"],
        "revisions": row["revisions"] or [],
        "models": {
            role: [row[f"{role}_model"], row[f"{role}_revision"]]
            for role in _MODELS
            if row[f"{role}_model"] is not None
        },
        "created": row["created_at"].isoformat(timespec="seconds"),
    }


def chunk(rows: Sequence[Row], tokens: TokenTexts | None) -> dict[str, Any]:
    """Some rows of a run with the texts of their tokens. A row of another tokenizer than `tokens`
    has none."""
    pieces: dict[str, str] = {}
    records = []
    for row in rows:
        made = record(row)
        made["known"] = tokens is not None and fits(row, tokens)
        if tokens is not None and made["known"]:
            pieces.update(tokens.pieces(_sequences(row)))
        records.append(made)
    special = tokens.special if tokens is not None else ()
    used = sorted(i for i in special if str(i) in pieces)
    return {"rows": records, "pieces": pieces, "special": used}


def fits(row: Row, tokens: TokenTexts) -> bool:
    """Whether the ids of a row are those of this tokenizer."""
    return row["tokenizer_fingerprint"] in (None, tokens.fingerprint)


def _sequences(row: Row) -> Iterable[list[int]]:
    yield row["response_token_ids"] or []
    yield row["base_token_ids"] or []
    for revision in row["revisions"] or ():
        yield [revision["from_token"]]
        yield [revision["to_token"]]
        yield revision["tail_token_ids"] or []


def _rounded(values: Sequence[float | None] | None) -> list[float | None] | None:
    return None if values is None else [None if v is None else round(v, 3) for v in values]


def plain(value: Any) -> Any:
    """A value without what JSON cannot hold: numbers that are none become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
