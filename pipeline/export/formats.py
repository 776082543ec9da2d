"""Traces as rows of each format. A unit is what one call turns into rows: a trace, or for formats
with a row a prompt all traces of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.export.chains import Tokens, steps
from pipeline.export.config import ExportConfig, Format
from pipeline.export.student import Student
from pipeline.export.turns import TurnFormat

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
Convert = Callable[[Sequence[Row]], Rows]

_IDS = pa.list_(pa.int32())
_KEYS = [("prompt_id", pa.string()), ("sample", pa.int32())]
IGNORED = -100  # the label of a token without a loss


@dataclass(frozen=True, kw_only=True)
class Converter:
    """A format: the schema of its rows, the columns of a trace that it reads, and how a unit
    becomes rows. `conversations(row)` are those that the student's template must render, made of
    turns as `turns` reads them."""

    schema: pa.Schema
    columns: tuple[str, ...]
    convert: Convert
    turns: TurnFormat
    conversations: Callable[[Row], list[list[dict[str, str]]]] = lambda row: []


def converter(config: ExportConfig, student: Student | None, turns: TurnFormat) -> Converter:
    """The converter of the configured format, for traces with these turns."""
    makers: dict[Format, Callable[[], Converter]] = {
        "rl": lambda: _rl(turns),
        "groups": lambda: _groups(turns),
        "kto": lambda: _kto(turns),
        "reward": lambda: _reward(config.max_pairs, _required(student), turns),
        "tokens": lambda: _tokens(_required(student), turns),
        "preference": lambda: _preference(config, _required(student), turns),
        "sft": {
            "text": lambda: _text(_required(student), turns),
            "messages": lambda: _messages(turns),
            "prompt_completion": lambda: _prompt_completion(turns),
        }[config.layout],
    }
    return makers[config.format]()


def _required(student: Student | None) -> Student:
    assert student is not None, "this format needs a tokenizer"
    return student


def _schema(*fields: tuple[str, Any]) -> pa.Schema:
    return pa.schema([*fields, *_KEYS])


def _keys(row: Row) -> dict[str, Any]:
    return {"prompt_id": row["prompt_id"], "sample": row["sample"]}


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _prompt_completion(turns: TurnFormat) -> Converter:
    return Converter(
        schema=_schema(("prompt", turns.type), ("completion", turns.type), *turns.fields),
        columns=("prompt_id", "sample", "prompt", "completion", *turns.columns),
        convert=lambda rows: [
            {"prompt": r["prompt"], "completion": r["completion"], **turns.further(r), **_keys(r)}
            for r in rows
        ],
        turns=turns,
        conversations=lambda row: [row["prompt"] + row["completion"]],
    )


def _messages(turns: TurnFormat) -> Converter:
    return Converter(
        schema=_schema(("messages", turns.type), *turns.fields),
        columns=("prompt_id", "sample", "messages", *turns.columns),
        convert=lambda rows: [
            {"messages": r["messages"], **turns.further(r), **_keys(r)} for r in rows
        ],
        turns=turns,
        conversations=lambda row: [row["messages"]],
    )


def _text(student: Student, turns: TurnFormat) -> Converter:
    def convert(rows: Sequence[Row]) -> Rows:
        return [
            {
                "prompt": student.prompt_text(row["rendered_prompt"]),
                "completion": student.text(row["response_token_ids"], special=True),
                **_keys(row),
            }
            for row in rows
            if student.stops(row["response_token_ids"])
        ]

    return Converter(
        schema=_schema(("prompt", pa.string()), ("completion", pa.string())),
        columns=("prompt_id", "sample", "rendered_prompt", "response_token_ids"),
        convert=convert,
        turns=turns,
    )


def _tokens(student: Student, turns: TurnFormat) -> Converter:
    def convert(rows: Sequence[Row]) -> Rows:
        made: Rows = []
        for row in rows:
            response = row["response_token_ids"]
            if student.stops(response):
                prompt = student.prompt_ids(row["rendered_prompt"])
                labels = [*[IGNORED] * len(prompt), *response]
                made.append({"input_ids": [*prompt, *response], "labels": labels, **_keys(row)})
        return made

    return Converter(
        schema=_schema(("input_ids", _IDS), ("labels", _IDS)),
        columns=("prompt_id", "sample", "rendered_prompt", "response_token_ids"),
        convert=convert,
        turns=turns,
    )


def _kto(turns: TurnFormat) -> Converter:
    return Converter(
        schema=_schema(
            *(("prompt", turns.type), ("completion", turns.type), ("label", pa.bool_())),
            *turns.fields,
        ),
        columns=("prompt_id", "sample", "prompt", "completion", "correct", *turns.columns),
        convert=lambda rows: [
            {
                "prompt": r["prompt"],
                "completion": r["completion"],
                "label": r["correct"],
                **turns.further(r),
                **_keys(r),
            }
            for r in rows
        ],
        turns=turns,
        conversations=lambda row: [row["prompt"] + row["completion"]],
    )


def _preference(config: ExportConfig, student: Student, turns: TurnFormat) -> Converter:
    def compared(row: Row) -> list[tuple[str, Tokens, Tokens, float]]:
        """Kind, chosen and rejected tokens, and the margin of each pair."""
        chain = list(steps(row))
        found: list[tuple[str, Tokens, Tokens, float]] = []
        # Where one revision was accepted, its pair is that of the last and the first response.
        if config.pairs == "revision" or (config.pairs == "both" and len(chain) > 1):
            found += [
                ("revision", s.after, s.before, s.reward_after - s.reward_before) for s in chain
            ]
        if config.pairs != "revision" and row["reward"] is not None:
            last, first = tuple(row["response_token_ids"]), tuple(row["base_token_ids"])
            found.append(("final", last, first, row["reward"] - row["base_reward"]))
        return found

    def convert(rows: Sequence[Row]) -> Rows:
        made: Rows = []
        for row in rows:
            for kind, chosen, rejected, margin in compared(row):
                if not (margin > 0 and student.stops(chosen) and student.stops(rejected)):
                    continue
                better, worse = student.text(chosen), student.text(rejected)
                if better != worse:
                    made.append(
                        {
                            "prompt": row["prompt"],
                            "chosen": _answer(better),
                            "rejected": _answer(worse),
                            "reward_margin": margin,
                            "pair": kind,
                            **turns.further(row),
                            **_keys(row),
                        }
                    )
        return made

    return Converter(
        schema=_schema(
            *(("prompt", turns.type), ("chosen", turns.type), ("rejected", turns.type)),
            *(("reward_margin", pa.float64()), ("pair", pa.string()), *turns.fields),
        ),
        columns=(
            *("prompt_id", "sample", "prompt", "completion", "response_token_ids"),
            *("base_token_ids", "reward", "base_reward", "revisions"),
            *turns.columns,
        ),
        convert=convert,
        turns=turns,
        conversations=lambda row: [row["prompt"] + row["completion"]],
    )


def _rl(turns: TurnFormat) -> Converter:
    def convert(rows: Sequence[Row]) -> Rows:
        graded = [row["correct"] for row in rows if row["correct"] is not None]
        first = rows[0]
        return [
            {
                "prompt": first["prompt"],
                "answer": first["expected_answer"],
                "pass_rate": sum(graded) / len(graded) if graded else None,
                "samples": len(rows),
                **turns.further(first),
                "prompt_id": first["prompt_id"],
            }
        ]

    return Converter(
        schema=pa.schema(
            [
                *(("prompt", turns.type), ("answer", pa.string()), ("pass_rate", pa.float64())),
                *(("samples", pa.int32()), *turns.fields, ("prompt_id", pa.string())),
            ]
        ),
        columns=("prompt_id", "prompt", "expected_answer", "correct", *turns.columns),
        convert=convert,
        turns=turns,
    )


def _groups(turns: TurnFormat) -> Converter:
    def convert(rows: Sequence[Row]) -> Rows:
        first = rows[0]
        return [
            {
                "prompt": first["prompt"],
                "completions": [row["completion"] for row in rows],
                "completion_ids": [row["response_token_ids"] for row in rows],
                "rewards": [row["reward"] for row in rows],
                "correct": [row["correct"] for row in rows],
                "finish_reasons": [row["finish_reason"] for row in rows],
                "samples": [row["sample"] for row in rows],
                "answer": first["expected_answer"],
                **turns.further(first),
                "prompt_id": first["prompt_id"],
            }
        ]

    return Converter(
        schema=pa.schema(
            [
                *(("prompt", turns.type), ("completions", pa.list_(turns.type))),
                *(("completion_ids", pa.list_(_IDS)), ("rewards", pa.list_(pa.float64()))),
                *(("correct", pa.list_(pa.bool_())), ("finish_reasons", pa.list_(pa.string()))),
                *(("samples", pa.list_(pa.int32())), ("answer", pa.string())),
                *(*turns.fields, ("prompt_id", pa.string())),
            ]
        ),
        columns=(
            *("prompt_id", "sample", "prompt", "completion", "response_token_ids"),
            *("reward", "correct", "finish_reason", "expected_answer"),
            *turns.columns,
        ),
        convert=convert,
        turns=turns,
    )


def _reward(most: int, student: Student, turns: TurnFormat) -> Converter:
    """Pairs of a right and a wrong response to one prompt, first responses of searches too."""

    def responses(rows: Sequence[Row]) -> dict[bool, dict[str, float | None]]:
        """The different right and wrong texts with their rewards."""
        found: dict[bool, dict[str, float | None]] = {True: {}, False: {}}
        for row in rows:
            for text, tokens, reward, right in (
                (row["response"], row["response_token_ids"], row["reward"], row["correct"]),
                (
                    row["base_response"],
                    row["base_token_ids"],
                    row["base_reward"],
                    row["base_correct"],
                ),
            ):
                if right is not None and student.stops(tokens):
                    found[right].setdefault(text, reward)
        return found

    def convert(rows: Sequence[Row]) -> Rows:
        found, first = responses(rows), rows[0]
        pairs = zip(found[True].items(), found[False].items(), strict=False)
        return [
            {
                "prompt": first["prompt"],
                "chosen": _answer(right),
                "rejected": _answer(wrong),
                "reward_margin": None if a is None or b is None else a - b,
                **turns.further(first),
                "prompt_id": first["prompt_id"],
            }
            for (right, a), (wrong, b) in list(pairs)[:most]
        ]

    return Converter(
        schema=pa.schema(
            [
                *(("prompt", turns.type), ("chosen", turns.type), ("rejected", turns.type)),
                *(("reward_margin", pa.float64()), *turns.fields, ("prompt_id", pa.string())),
            ]
        ),
        columns=(
            *("prompt_id", "prompt", "response", "response_token_ids", "reward", "correct"),
            *("base_response", "base_token_ids", "base_reward", "base_correct"),
            *turns.columns,
        ),
        convert=convert,
        turns=turns,
    )


def check_tails(config: ExportConfig, stored: Sequence[str | None]) -> None:
    """Raises InputError where pairs of revisions are asked for and a run kept none of their
    tokens."""
    if config.format == "preference" and config.pairs == "revision" and "none" in stored:
        raise InputError(
            "pairs=revision needs the tokens of accepted revisions, and a run was made with "
            "store.candidates=none: export pairs=final"
        )
