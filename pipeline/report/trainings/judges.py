"""The figures of a judge as the page shows them: answers, best of k, and calibration, each beside
those of the judge that it was trained from.

A measurement of `nabla train-judge` holds them as `report`: see `pipeline.train_judge.report`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Figures = Mapping[str, Any]
_ANSWERS = ("answers", "right", "auc", "auc_within_prompts", "brier", "ece")
_HEADER = ("judge", "answers", "number", "right", "AUC", "within prompts", "Brier", "ECE")


def judge_tables(new: Figures, last: Figures | None, title: str) -> list[dict[str, Any]]:
    """Tables of the judge `new`, called `title`, and of the one before (None: there was none)."""
    judges = {title: new} | ({"before training": last} if last else {})
    answers = [
        [name, kind, *(figures.get(key) for key in _ANSWERS)]
        for name, report in judges.items()
        for kind, figures in _kinds(report)
    ]
    tables = [{"title": "Graded answers", "header": list(_HEADER), "rows": answers}]
    bins = [
        [name, one["count"], one["predicted"], one["right"]]
        for name, report in judges.items()
        for one in (report.get("fresh") or {}).get("bins") or ()
    ]
    if bins:
        header = ["judge", "answers", "sigmoid(reward)", "share that is right"]
        tables.append({"title": "Calibration on fresh samples", "header": header, "rows": bins})
    return tables


def judge_curves(new: Figures, last: Figures | None, title: str) -> dict[str, Any] | None:
    """Accuracy of the best of k fresh samples by each judge; None where none were drawn."""
    judges = {title: new} | ({"before training": last} if last else {})
    lines = {
        name: sorted([int(k), value] for k, value in best.items())
        for name, report in judges.items()
        if (best := (report.get("fresh") or {}).get("best_of"))
    }
    return lines or None


def _kinds(report: Figures) -> Iterator[tuple[str, Figures]]:
    fresh, searched = report.get("fresh") or {}, report.get("searched")
    if fresh.get("answers"):
        yield "fresh samples", fresh
    yield from (report.get("given") or {}).items()
    if searched:
        yield "of a search with this judge", searched
