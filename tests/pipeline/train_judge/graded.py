"""Run folders of graded answers to prompts of the embedded task, and configs that train on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nabla_core.embedded import task
from nabla_core.types import Prompt
from tests.core.tiny import Family
from tests.pipeline.export.runs import revision, trace, write_run


def wrong(prompt: Prompt, digit: int = 1, step: int = 7) -> str:
    """A response whose value at a step is off by `digit`."""
    values = task.solve(prompt.text).split(task.SEPARATOR)
    values[step] = str((int(values[step]) + digit) % 10)
    return task.SEPARATOR.join(values)


def train_prompts(count: int, skip: int = 0) -> list[Prompt]:
    return task.prompts(count + skip, seed=0, split="train")[skip:]


def sample_rows(prompts: Sequence[Prompt], **columns: Any) -> list[dict[str, Any]]:
    """Two samples of each prompt, the first one right."""
    return [
        trace(
            p.id,
            task.solve(p.text) if right else wrong(p),
            question=p.text,
            answer=p.answer,
            sample=0 if right else 1,
            correct=right,
            reward=1.0 if right else -1.0,
            method="sample",
            **columns,
        )
        for p in prompts
        for right in (True, False)
    ]


def search_row(prompt: Prompt, **columns: Any) -> dict[str, Any]:
    """A search from a wrong response, over another wrong one that it rejects, to a wrong one that
    the judge takes for right."""
    first, rejected, last = wrong(prompt), wrong(prompt, 2), wrong(prompt, 3)
    return trace(
        prompt.id, last, first, question=prompt.text, answer=prompt.answer, correct=False,
        reward=3.0, base_reward=-1.0,
        revisions=[
            revision(first, rejected, (-1.0, -2.0)),
            revision(first, last, (-1.0, 3.0)),
        ],
        **columns,
    )  # fmt: skip


def runs(folder: Path, prompts: Sequence[Prompt]) -> list[str]:
    """Samples and searches."""
    return [
        write_run(folder / "samples", sample_rows(prompts)),
        write_run(folder / "searches", [search_row(p) for p in prompts]),
    ]


def settings(family: Family, folders: Sequence[str], run: Path | str, *more: str) -> list[str]:
    """Overrides of `jobs.train_judge` that train in six steps."""
    return [
        *(f"run_dir={run}", f"data.runs=[{','.join(folders)}]", f"lm.path={family.lm}"),
        *(f"reward.judge={family.judge}", "optimise.steps=6", "optimise.batch=8"),
        *("optimise.micro_batch=2", "optimise.learning_rate=1e-3", "data.held_out=0.2"),
        *("validation.prompts.path=embedded", "validation.prompts.limit=6"),
        *("validation.verify.method=embedded", "validation.metric=loss"),
        *("validation.max_tokens=20", "validation.every=2", "validation.samples=4"),
        *("validation.search=false", "optimise.attention=eager"),
        *more,
    ]
