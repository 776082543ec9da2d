"""Graded answers from the run folders of `jobs.generate`: first and last responses, and candidates
of searches, which the verifier grades here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from nabla_core.types import Prompt
from pipeline.errors import InputError
from pipeline.export.chains import candidates
from pipeline.export.sources import Reader, Source, describe, open_sources
from pipeline.grading.graders import Grader
from pipeline.inputs.prompts import content_key
from pipeline.tables.traces import prompt_of

Tokens = tuple[int, ...]
Kind = Literal["first", "final", "candidate"]

_COLUMNS = (
    *("prompt_id", "sample", "prompt", "system", "tools", "expected_answer", "error"),
    *("response", "response_token_ids", "reward", "correct"),
    *("base_response", "base_token_ids", "base_reward", "base_correct"),
    *("revisions", "tokenizer_fingerprint", "judge_revision"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedAnswer:
    """A response and whether its answer is right.

    `key` stands for the content of the prompt. `reward` is that of `judge` (a revision), None
    without one. `source` is the number of its run folder. `kind`: the first response of a search,
    the final one (of methods without a search the only one), or another that a search tried.
    """

    prompt: Prompt
    key: str
    tokens: Tokens
    text: str
    right: bool
    reward: float | None
    judge: str | None
    source: int
    kind: Kind


@dataclass
class Answers:
    """The answers of all folders, a description of each folder (for the judge's card), and what was
    left out, by reason. `excluded` are the contents of prompts that were not to be read."""

    found: list[GradedAnswer] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    excluded: set[str] = field(default_factory=set)

    @property
    def digest(self) -> str:
        """16 hex digits that stand for the answers in their order."""
        digest = blake2b(digest_size=8)
        for a in self.found:
            digest.update(repr((a.key, a.tokens, a.right, a.reward, a.source)).encode())
        return digest.hexdigest()


def read_answers(
    runs: Sequence[str],
    *,
    key: str,
    fingerprint: str,
    decode: Callable[[Tokens], str],
    grade: Grader,
    most_candidates: int,
    limit: int | None = None,
    allow_partial: bool = False,
    exclude: Collection[str] = (),
) -> Answers:
    """Read run folders. `key` is the setting that names them, for errors.

    Their tokens must be of the tokenizer with this `fingerprint`, whose texts `decode` makes. A
    verdict in a row is taken as it is; answers without one are graded. Answers to prompts of
    `exclude` (contents) are left out. Raises InputError naming folder and row.
    """
    answers = Answers()
    for number, source in enumerate(open_sources(runs, allow_partial=allow_partial)):
        before, rows = len(answers.found), 0
        for row, where in _rows(source, limit):
            rows += 1
            if row["error"] is not None:
                answers.left_out["prompts that failed"] += 1
                continue
            if row["tokenizer_fingerprint"] != fingerprint:
                raise InputError(
                    f"{where} (prompt {row['prompt_id']}): its tokens are of the tokenizer "
                    f"{row['tokenizer_fingerprint']}, that of lm.path is {fingerprint}: {key} must "
                    "be made with lm.path, or with another LM of its tokenizer"
                )
            prompt = prompt_of(row)
            content = content_key(prompt)
            if content in exclude:
                answers.excluded.add(content)
                answers.left_out["rows of validation prompts"] += 1
                continue
            answers.found += _graded(
                row, prompt, content, number, decode, grade, most_candidates, answers.left_out
            )
        found = answers.found[before:]
        if not found:
            raise InputError(
                f"{key}: {source.uri} holds no graded answer ({rows} rows; left out: "
                f"{dict(answers.left_out)}): a judge learns from prompts with expected answers"
            )
        answers.sources.append(
            {
                **describe(source, rows),
                "answers": len(found),
                "right": sum(a.right for a in found),
                "judge_revisions": sorted({a.judge for a in found if a.judge is not None}),
            }
        )
    return answers


def _rows(source: Source, limit: int | None) -> Iterator[tuple[Mapping[str, Any], str]]:
    reader, number = Reader([source]), 0
    for file, first, table in reader.scan(_COLUMNS):
        for offset, row in enumerate(table.to_pylist()):
            if number == limit:
                return
            number += 1
            yield row, reader.where(file, first + offset)


def _graded(
    row: Mapping[str, Any],
    prompt: Prompt,
    content: str,
    source: int,
    decode: Callable[[Tokens], str],
    grade: Grader,
    most_candidates: int,
    left_out: Counter[str],
) -> Iterator[GradedAnswer]:
    """The different responses of a row. A response that is first and final is final."""
    tried = sorted(candidates(row), key=lambda c: c.reward, reverse=True) if most_candidates else []
    known: list[tuple[Kind, Tokens, str | None, float | None, bool | None]] = [
        ("final", tuple(row["response_token_ids"]), row["response"], row["reward"], row["correct"]),
        (
            "first",
            tuple(row["base_token_ids"]),
            row["base_response"],
            row["base_reward"],
            row["base_correct"],
        ),
        *(("candidate", c.tokens, None, c.reward, None) for c in tried),
    ]
    seen: set[Tokens] = set()
    left = most_candidates
    for kind, tokens, text, reward, verdict in known:
        if tokens in seen or (kind == "candidate" and not left):
            continue
        seen.add(tokens)
        left -= kind == "candidate"
        shown = decode(tokens) if text is None else text
        right = grade(prompt, shown).correct if verdict is None else verdict
        if right is None:
            left_out["answers that were not graded"] += 1
            continue
        yield GradedAnswer(
            prompt=prompt,
            key=content,
            tokens=tokens,
            text=shown,
            right=right,
            reward=reward,
            judge=row["judge_revision"],
            source=source,
            kind=kind,
        )
