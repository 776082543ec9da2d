"""The figures of a judge beside those of the last one, as JSON and as Markdown. Imports neither
torch nor ray.

`fresh`, `searched` and each of `given` (see `examination`) hold `answers`, `right`, `auc`,
`auc_within_prompts`, `brier`, `ece` and `bins`; `fresh` also `best_of` (the curve), `searched` also
`accuracy`, `reward` and `failed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Figures = Mapping[str, Any]


def summary(figures: Figures) -> dict[str, Any]:
    """The main figures: accuracy of the search, accuracy of the best of all samples, AUC on
    held-out and other given answers (their mean over folders), on fresh and on searched ones. AUC
    of held-out and fresh answers also within prompts."""
    curve = figures["fresh"]["best_of"]
    given = figures["given"].values()
    searched = figures["searched"]
    return {
        "accuracy": searched["accuracy"] if searched else None,
        "best_of": curve[max(curve, key=int)] if curve else None,
        "auc": _mean(one["auc"] for one in given),
        "auc_within_prompts": _mean(one["auc_within_prompts"] for one in given),
        "fresh_auc": figures["fresh"]["auc"],
        "fresh_auc_within_prompts": figures["fresh"]["auc_within_prompts"],
        "searched_auc": searched["auc"] if searched else None,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def report(new: Figures, last: Figures | None) -> dict[str, Any]:
    """What `report.json` holds: all figures of both judges; `last` is null for a first judge."""
    return {"schema": "judge-report/1", "new": new, "last": last}


def markdown(new: Figures, last: Figures | None) -> str:
    """The same figures as tables. Where there is no last judge, its cells are empty."""
    if last is None:
        last = {"fresh": {"best_of": {}, "bins": []}, "given": {}, "searched": {}}
    return "\n".join([*_answers(new, last), "", *_curve(new, last), "", *_bins(new, last)])


def _answers(new: Figures, last: Figures) -> Iterator[str]:
    yield "| answers | number | right | AUC, last | AUC, new | within prompts, last | new | "
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    pairs: list[tuple[str, Figures, Figures]] = []
    if new["fresh"]["answers"]:
        pairs.append(("fresh samples", new["fresh"], last["fresh"]))
    for name, one in new["given"].items():
        pairs.append((name, one, last["given"].get(name, {})))
    for name, a, b in pairs:
        yield (
            f"| {name} | {a['answers']} | {a['right']} | {_shown(b.get('auc'))} | "
            f"{_shown(a['auc'])} | {_shown(b.get('auc_within_prompts'))} | "
            f"{_shown(a['auc_within_prompts'])} |"
        )
    if new["searched"]:
        # Each judge on the outputs of the search against itself.
        a, b = new["searched"], last["searched"]
        yield (
            f"| searched against it | {a['answers']} | {a['right']} | {_shown(b.get('auc'))} | "
            f"{_shown(a['auc'])} | | |"
        )
        yield ""
        before = f"{_shown(b['accuracy'])} with the last judge, " if b else ""
        yield f"Accuracy of the search: {before}{_shown(a['accuracy'])} with the new one."


def _curve(new: Figures, last: Figures) -> Iterator[str]:
    sizes = sorted(new["fresh"]["best_of"], key=int)
    if not sizes:
        return
    yield "| best of | " + " | ".join(str(size) for size in sizes) + " |"
    yield "| --- |" + " --- |" * len(sizes)
    for name, figures in (("last", last), ("new", new)):
        curve = figures["fresh"]["best_of"]
        if not curve:  # there is no last judge
            continue
        yield f"| {name} | " + " | ".join(_shown(curve.get(size)) for size in sizes) + " |"


def _bins(new: Figures, last: Figures) -> Iterator[str]:
    """Calibration on fresh samples, else on the first given answers."""
    name = "fresh samples"
    a, b = new["fresh"], last["fresh"]
    if not a["answers"] and new["given"]:
        name = next(iter(new["given"]))
        a, b = new["given"][name], last["given"].get(name, {"bins": []})
    if not a["bins"]:
        return
    brier, ece = (
        f"{_shown(b[key])} -> {_shown(a[key])}" if key in b else _shown(a[key])
        for key in ("brier", "ece")
    )
    yield (
        f"Calibration on {name}: Brier {brier}, expected calibration error {ece} (sigmoid of the "
        "reward against the share of right answers)."
    )
    yield ""
    yield "| judge | answers | sigmoid(reward) | right |"
    yield "| --- | --- | --- | --- |"
    for judge, figures in (("last", b), ("new", a)):
        for one in figures["bins"]:
            shown = f"{_shown(one['predicted'])} | {_shown(one['right'])}"
            yield f"| {judge} | {one['count']} | {shown} |"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
