"""The table of traces: the Arrow schema of every file of a run, and rows of it.

`datasets` loads data/. It is no training set: a row has `prompt` and `completion` beside
`messages`, texts beside ids, and responses that were cut by length. `pipeline.export` makes one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from nabla_core.types import Identity, Message, Prompt, Revision, Trace
from pipeline.inputs.prompts import Item
from pipeline.store.settings import Candidates

# Raised with every change of a column's name or meaning. Rows of another version are refused.
VERSION = "5"

# `tool_calls` are the JSON text of a list of calls; with the other two null where a turn has none.
TURNS = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("tool_calls", pa.string()),
            ("name", pa.string()),
            ("tool_call_id", pa.string()),
        ]
    )
)
SPENT = pa.struct(
    [("paper_calls", pa.int64()), ("flops", pa.float64()), ("generated_tokens", pa.int64())]
)
# One struct for each proposal, accepted or not, in the order of the search. Rewards in the judge's
# units, `advantage` in the guide's; `reward_after` is null if the judge cannot read the result.
_REVISIONS = pa.list_(
    pa.struct(
        [
            ("position", pa.int32()),
            ("from_token", pa.int32()),
            ("to_token", pa.int32()),
            ("from_text", pa.string()),
            ("to_text", pa.string()),
            ("confidence", pa.float64()),
            ("grad_norm", pa.float64()),
            ("advantage", pa.float64()),
            ("reward_before", pa.float64()),
            ("reward_after", pa.float64()),
            ("accepted", pa.bool_()),
            # The tokens of the proposed response from `position` on; null where `store.candidates`
            # leaves them out. See `nabla_core.types.Revision`.
            ("tail_token_ids", pa.list_(pa.int32())),
            # What the search had cost up to here; see `nabla_core.types.Revision`.
            ("spent", SPENT),
        ]
    )
)
# See `nabla_core.types.Cost`.
COST = pa.struct(
    [
        ("rollouts", pa.int64()),
        ("generated_tokens", pa.int64()),
        ("lm_forward", pa.int64()),
        ("lm_backward", pa.int64()),
        ("rm_forward", pa.int64()),
        ("rm_backward", pa.int64()),
        ("token_passes", pa.int64()),
        ("flops", pa.float64()),
        ("paper_calls", pa.int64()),
        ("seconds", pa.float64()),
    ]
)

# The columns of every table. The store finds, verifies and sorts rows by these.
KEYS = [
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("sample", pa.int32(), nullable=False),
    pa.field("input_fingerprint", pa.string(), nullable=False),
    pa.field("attempt", pa.int32(), nullable=False),
    pa.field("worker", pa.string(), nullable=False),
    pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("error", pa.string()),
]

TRACES = pa.schema(
    [
        *KEYS[:2],
        # The conversation.
        ("question", pa.string()),
        ("prompt", TURNS),
        ("completion", TURNS),
        ("messages", TURNS),
        ("system", pa.string()),
        # The JSON text of a list of JSON Schemas; null where a prompt has none.
        ("tools", pa.string()),
        # What the LM read and wrote, and the first rollout; null in a dead letter.
        ("rendered_prompt", pa.string()),
        ("response", pa.string()),
        ("response_token_ids", pa.list_(pa.int32())),
        # Of the response's tokens under the LM at temperature 1, in nats; null where the search did
        # not read the last response, and at tokens that it did not read.
        ("response_log_probabilities", pa.list_(pa.float32())),
        ("finish_reason", pa.string()),
        ("base_response", pa.string()),
        ("base_token_ids", pa.list_(pa.int32())),
        ("base_reward", pa.float64()),
        ("reward", pa.float64()),
        # How the row was made, and by which models.
        ("method", pa.string()),
        ("judge_model", pa.string()),
        ("judge_revision", pa.string()),
        ("guide_model", pa.string()),
        ("guide_revision", pa.string()),
        ("generation_model", pa.string()),
        ("generation_revision", pa.string()),
        ("tokenizer_fingerprint", pa.string()),
        # The answer of the input, and what the grader found; null if nothing was graded.
        ("expected_answer", pa.string()),
        ("predicted_answer", pa.string()),
        ("correct", pa.bool_()),
        ("base_correct", pa.bool_()),
        ("revisions", _REVISIONS),
        ("cost", COST),
        ("seed", pa.int64()),
        ("config_hash", pa.string()),
        *KEYS[2:],
    ],
    metadata={"nabla_schema": f"traces/{VERSION}"},
)


def key_columns(item: Item, worker: str, attempt: int, error: str | None) -> dict[str, Any]:
    """The columns of `KEYS` for a row that is made now."""
    return {
        "prompt_id": item.prompt.id,
        "sample": item.prompt.sample,
        "input_fingerprint": item.fingerprint,
        "attempt": attempt,
        "worker": worker,
        "created_at": datetime.now(UTC),
        "error": error,
    }


def model_columns(identities: Mapping[str, Identity], **roles: str) -> dict[str, str | None]:
    """`<column>_model` and `<column>_revision` of each model, given as `column=role`; `identities`
    maps roles to models. null where a role has no model."""
    columns: dict[str, str | None] = {}
    for column, role in roles.items():
        model = identities.get(role)
        columns[f"{column}_model"] = model.name if model else None
        columns[f"{column}_revision"] = model.revision if model else None
    return columns


def prompt_columns(prompt: Prompt) -> dict[str, Any]:
    """The columns of the prompt. A dead letter has these, and none of the response."""
    messages = _messages(prompt)
    return {
        "question": prompt.text,
        "prompt": messages,
        "messages": messages,
        "system": prompt.system,
        "tools": None if prompt.tools is None else json_text(prompt.tools),
        "expected_answer": prompt.answer,
    }


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row of traces or counterfactuals."""
    # A system prompt of the config is stored in a column of its own and as the first turn.
    turns = [t for t in row["prompt"] if t["role"] != "system" or row["system"] is None]
    return Prompt(
        row["prompt_id"],
        tuple(turns_of(turns)),
        system=row["system"],
        answer=row["expected_answer"],
        sample=row["sample"],
        tools=None if row["tools"] is None else tuple(json.loads(row["tools"])),
    )


def turns_of(stored: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Turns of a column of `TURNS`, without what they do not have."""
    return [
        {
            name: json.loads(value) if name == "tool_calls" else value
            for name, value in turn.items()
            if value is not None
        }  # type: ignore[misc]
        for turn in stored
    ]


def json_text(value: Any) -> str:
    """A JSON value as the text that a column holds; keys stay in their order."""
    return json.dumps(value, ensure_ascii=False)


def trace_columns(prompt: Prompt, trace: Trace, candidates: Candidates = "all") -> dict[str, Any]:
    """The columns of the response and of how it came to be. `candidates` are the revisions whose
    tokens are kept."""
    completion: list[dict[str, Any]] = [{"role": "assistant", "content": trace.text}]
    return {
        "completion": completion,
        "messages": [*_messages(prompt), *completion],
        "rendered_prompt": trace.prompt_text,
        "response": trace.text,
        "response_token_ids": list(trace.tokens),
        "response_log_probabilities": (
            None if trace.log_probabilities is None else list(trace.log_probabilities)
        ),
        "finish_reason": trace.finish_reason,
        "base_response": trace.base_text,
        "base_token_ids": list(trace.base_tokens),
        "base_reward": trace.base_reward,
        "reward": trace.reward,
        "revisions": [_revision_row(revision, candidates) for revision in trace.revisions],
        "cost": asdict(trace.cost),
    }


def _revision_row(revision: Revision, candidates: Candidates) -> dict[str, Any]:
    kept = candidates == "all" or (candidates == "accepted" and revision.accepted)
    tail = list(revision.tail_token_ids) if kept else None
    spent = revision.spent and {name: getattr(revision.spent, name) for name in SPENT.names}
    return {**asdict(revision), "tail_token_ids": tail, "spent": spent}


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    system: list[dict[str, Any]] = (
        [{"role": "system", "content": prompt.system}] if prompt.system is not None else []
    )
    return [*system, *map(_stored, prompt.messages)]


def _stored(turn: Message) -> dict[str, Any]:
    if "tool_calls" not in turn:
        return dict(turn)
    return {**turn, "tool_calls": json_text(turn["tool_calls"])}
