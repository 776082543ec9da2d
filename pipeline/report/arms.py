"""The runs of a report: one, or several that are compared prompt by prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from pipeline.references import redacted, shown_uri
from pipeline.report import index
from pipeline.report.committed import Committed, Group, committed
from pipeline.report.figures import Array, change, figures, verdicts
from pipeline.report.index import Part
from pipeline.report.tokens import TokenTexts, run_config, run_tokens
from pipeline.store.checks.models_check import MODELS, read_models
from pipeline.store.checks.owner import owner_of
from pipeline.store.claims import holder
from pipeline.store.expected import read_expected
from pipeline.tables.trace_totals import error_type


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One run of a report. `name` is what the pages call it: the last part of its folder, and with
    a number where two runs have the same."""

    name: str
    uri: str
    rows: Committed
    tokens: TokenTexts | None


def open_arms(
    uris: Sequence[str], tokenizer: str | None, names: Sequence[str] | None = None
) -> list[Arm]:
    """The runs, in order, by these names or those of their folders. Raises InputError, StoreError
    and ConfigError."""
    arms: list[Arm] = []
    for number, uri in enumerate(uris):
        rows = committed(uri)
        arms.append(
            Arm(
                name=names[number] if names else _name(uri, [arm.name for arm in arms]),
                uri=uri,
                rows=rows,
                tokens=run_tokens(rows.folder, tokenizer),
            )
        )
    return arms


def _name(uri: str, taken: Sequence[str]) -> str:
    path = PurePath(shown_uri(uri).partition("?")[0])
    name = path.name or uri
    if name in taken:
        name = f"{path.parent.name}/{name}"
    return name if name not in taken else f"{name} ({len(taken) + 1})"


def described(arm: Arm, part: Part) -> dict[str, Any]:
    """What the overview says of a run; `part` is the index of its rows."""
    folder = arm.rows.folder
    expected, owner = read_expected(folder), owner_of(folder)
    return {
        "name": arm.name,
        "job": owner.job if owner else None,
        "state": _state(arm),
        "expected": expected.rows if expected else None,
        "damaged": arm.rows.damaged,
        "tokens": arm.tokens is not None,
        "models": _models(folder),
        "config": redacted(dict(run_config(folder))),
        "dead": _dead(arm, part),
        "figures": figures(part),
    }


def _state(arm: Arm) -> str:
    driver = holder(arm.rows.folder)
    if driver:
        return f"running by {driver}"
    return "done" if arm.rows.finished else "stopped"


def _models(folder: Any) -> dict[str, list[str]]:
    models = read_models(folder) if folder.exists(MODELS) else {}
    return {role: [model.name, model.revision] for role, model in models.items()}


def _dead(arm: Arm, part: Part) -> dict[str, int]:
    if not (part.columns["flags"] & index.DEAD).any():
        return {}
    counts: Counter[str] = Counter()
    for table in arm.rows.tables(("error",)):
        counts.update(error_type(e) for e in table["error"].to_pylist() if e is not None)
    return dict(counts.most_common())


def comparison(first: Part, second: Part) -> dict[str, Any]:
    """The rows of two runs that answer the same prompt and sample, the second run minus the first:
    rewards and answers with intervals over prompts."""
    mine, theirs = _same(first.keys, second.keys)
    before, after = (
        {name: part.columns[name][at] for name in ("reward", "flags", "flops", "tokens")}
        for part, at in ((first, mine), (second, theirs))
    )
    prompts = first.prompts[mine]
    old, new = verdicts(before["flags"])[1], verdicts(after["flags"])[1]
    return {
        "pairs": len(mine),
        "only_first": len(first) - len(mine),
        "only_second": len(second) - len(mine),
        "reward": change(before["reward"], after["reward"], prompts),
        "accuracy": change(old, new, prompts),
        "flops": change(before["flops"], after["flops"], prompts),
        "tokens": change(before["tokens"].astype("f8"), after["tokens"].astype("f8"), prompts),
        "only_first_right": int(((old == 1) & (new == 0)).sum()),
        "only_second_right": int(((old == 0) & (new == 1)).sum()),
    }


def partners(first: Part, second: Part) -> Array:
    """For each row of the second run the row of the first one with the same prompt and sample; -1
    where there is none."""
    found = np.full(len(second), -1, dtype="i4")
    mine, theirs = _same(first.keys, second.keys)
    found[theirs] = mine
    return found


def _same(first: Array, second: Array) -> tuple[Array, Array]:
    _, mine, theirs = np.intersect1d(first, second, return_indices=True)
    return mine, theirs


def numbered(arms: Sequence[Arm]) -> Iterator[tuple[int, Arm, Group]]:
    """All row groups of all runs, in order."""
    for number, arm in enumerate(arms):
        for group in arm.rows.groups:
            yield number, arm, group
