"""A trace in the terminal: its first and its last response, the replaced tokens in brackets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from jobs.display import console
from pipeline.printable import visible

if TYPE_CHECKING:
    from pipeline.report.tokens import TokenTexts

Row = Mapping[str, Any]


def print_change(row: Row, tokens: TokenTexts | None = None, *, answer: str = "") -> None:
    """The prompt, the first response and what became of it, each with its reward.

    `answer` is what a verdict is called with, such as "last digit ". Without `tokens` only the
    token of a single revision is in brackets.
    """
    console.print_line(f"  prompt  {row['question']}")
    for name, text, reward, correct in _responses(row, tokens):
        verdict = "" if correct is None else f", {answer}{'right' if correct else 'wrong'}"
        shown = "reward unknown" if reward is None else f"reward {reward:.3f}"
        console.print_line(f"  {name}  {text}  {shown}{verdict}")


def print_trace(row: Row, tokens: TokenTexts | None) -> None:
    """All that a row says of its trace; of a dead letter its error."""
    sample = f", sample {row['sample']}" if row["sample"] else ""
    console.print_line(visible(f"{row['prompt_id']}{sample}"))
    if row["error"] is not None:
        console.print_line(f"  prompt  {row['question']}")
        console.print_line(f"  dead letter, attempt {row['attempt']}: {row['error']}")
        return
    print_change(row, tokens)
    for name, value in _facts(row):
        console.print_line(f"  {name:<6}  {visible(value)}")
    if row["revisions"]:
        console.print_table(_revisions(row))


def _responses(
    row: Row, tokens: TokenTexts | None
) -> Iterator[tuple[str, str, float | None, bool | None]]:
    """Name, marked text, reward and verdict of each response from the first to the last."""
    from pipeline.report.steps import steps_of

    before, after = row["base_response"], row["response"]
    ends = (
        ("before", row["base_reward"], row["base_correct"]),
        (
            "after ",
            row["reward"],
            row["correct"],
        ),
    )
    accepted = [r for r in row["revisions"] or () if r["accepted"]]
    steps = steps_of(row) if tokens is not None else []
    if tokens is not None and len(steps) > 1:
        for number, step in enumerate(steps):
            marks = [at for at in (step.position, step.replaced) if at is not None]
            name, reward, correct = (
                ends[0] if number == 0 else ends[1] if number == len(steps) - 1
                else (f"{number:>6}", step.reward, None)
            )  # fmt: skip
            yield name, _marked(step.ids, marks, tokens), reward, correct
        return
    texts = [before, after]
    if len(accepted) == 1 and before != after:
        pairs = zip(before, after, strict=False)
        shorter = min(len(before), len(after))
        start = next((n for n, (old, new) in enumerate(pairs) if old != new), shorter)
        words = (accepted[0]["from_text"], accepted[0]["to_text"])
        texts = [_bracketed(text, start, word) for text, word in zip(texts, words, strict=True)]
    for (name, reward, correct), text in zip(ends, texts, strict=True):
        yield name, text, reward, correct


def _bracketed(text: str, start: int, word: str) -> str:
    # Two tokens may begin with the same characters: the text differs inside them then.
    if text[start : start + len(word)] != word:
        return text
    return f"{text[:start]}[{word}]{text[start + len(word) :]}"


def _marked(ids: tuple[int, ...], marks: list[int], tokens: TokenTexts) -> str:
    parts: list[str] = []
    start = 0
    for at in sorted(set(marks)):
        parts += [tokens.text(ids[start:at], special=False), f"[{tokens.text(ids[at : at + 1])}]"]
        start = at + 1
    return "".join([*parts, tokens.text(ids[start:], special=False)])


def _facts(row: Row) -> Iterator[tuple[str, str]]:
    if row["expected_answer"] is not None:
        yield "gold", row["expected_answer"]
        if row["predicted_answer"] is not None:
            yield "answer", row["predicted_answer"]
    if row["system"] is not None:
        yield "system", row["system"]
    if row["tools"] is not None:
        from nabla_core.text.tools import names_of

        yield "tools", ", ".join(names_of(json.loads(row["tools"])))
    made = (row["method"], row["generation_model"], f"{len(row['response_token_ids'])} tokens")
    yield "made", ", ".join(str(x) for x in (*made, row["finish_reason"]) if x is not None)
    cost = row["cost"]
    if cost is not None:
        yield (
            "cost",
            f"{cost['rollouts']} rollouts, {cost['generated_tokens']} generated tokens, "
            f"{cost['flops']:.3g} FLOPs, {cost['seconds']:.2f} s",
        )


def _revisions(row: Row) -> Table:
    table = Table("position", "from", "to", "advantage", "reward", "", box=None)
    for revision in row["revisions"]:
        after = revision["reward_after"]
        table.add_row(
            str(revision["position"]),
            revision["from_text"],
            revision["to_text"],
            f"{revision['advantage']:.3f}",
            f"{revision['reward_before']:.3f} -> {'unknown' if after is None else f'{after:.3f}'}",
            "accepted" if revision["accepted"] else "rejected",
        )
    return table
