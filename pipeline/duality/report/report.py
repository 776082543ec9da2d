"""report.md and report.html: the same words, tables and plots twice."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2

from pipeline.duality.findings import Book, Finding, Spread, broken
from pipeline.duality.language.plane import above
from pipeline.duality.report import plots
from pipeline.duality.report.claims import tell
from pipeline.duality.report.sentences import what_we_measured
from pipeline.store.files import Folder


@dataclass(frozen=True)
class Table:
    """A titled table of texts."""

    title: str
    header: list[str]
    rows: list[list[str]]


def write(folder: Folder, books: Sequence[Book], seconds: dict[str, float]) -> None:
    """Write the report and its plots into the run folder."""
    findings = [f for book in books for f in book.findings]
    pictures = plots.draw(books)
    for name, (_, picture) in pictures.items():
        folder.write(f"plots/{name}.png", picture)
    known = {
        "sound": not broken(findings),
        "broken": [
            f"{f.part}: {f.check} [{f.arm}, seed {f.seed}] is {f.value:.4g}, "
            f"threshold {f.threshold}, {f.kind}"
            for f in broken(findings)
        ],
        "counts": {kind: sum(f.kind == kind for f in findings) for kind in ("positive", "control")},
        "seeds": sorted({f.seed for f in findings}),
        "seconds": {part: f"{value:.0f}" for part, value in seconds.items()},
        "claims": tell(findings),
        "measured": what_we_measured(findings),
        "tables": tables(findings),
    }
    encoded = {
        name: (caption, base64.b64encode(picture).decode())
        for name, (caption, picture) in pictures.items()
    }
    captions = {name: caption for name, (caption, _) in pictures.items()}
    folder.write("report.md", _render("report.md.j2", known | {"plots": captions}))
    folder.write("report.html", _render("report.html.j2", known | {"plots": encoded}))


def _render(name: str, known: dict[str, object]) -> bytes:
    environment = jinja2.Environment(
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    source = (files("pipeline.duality.report") / "templates" / name).read_text(encoding="utf-8")
    return environment.from_string(source).render(**known).encode()


def tables(findings: Sequence[Finding]) -> list[Table]:
    """Every check and control; then the arms with their numbers side by side."""
    found = []
    parts = dict.fromkeys(f.part for f in findings)
    for part in parts:
        here = [f for f in findings if f.part == part]
        if any(f.kind != "report" for f in here):
            found.append(_checks(part, [f for f in here if f.kind != "report"]))
        columns = _COLUMNS.get(part)
        if columns:
            found.append(_arms(part, [f for f in here if f.kind == "report"], columns))
    return found


def _checks(part: str, findings: list[Finding]) -> Table:
    groups: dict[tuple[str, str], list[Finding]] = {}
    for f in findings:
        groups.setdefault((f.check, f.arm), []).append(f)
    rows = []
    for (check, arm), group in groups.items():
        first = group[0]
        asked = "must hold" if first.kind == "positive" else "must fail"
        verdicts = sorted({f.verdict for f in group})
        rows.append(
            [
                check,
                arm,
                str(Spread.of([f.value for f in group])),
                f"{max(f.threshold or 0 for f in group):.3g}",
                asked,
                " and ".join(verdicts) + (f" ({len(group)} seeds)" if len(group) > 1 else ""),
            ]
        )
    header = ["check (value at most the threshold)", "arm", "value", "threshold", "", "verdict"]
    return Table(f"Part {part}: checks and controls", header, rows)


def _arms(part: str, findings: list[Finding], columns: dict[str, tuple[str, ...]]) -> Table:
    """One row an arm; a column shows the checks named, joined."""
    groups: dict[tuple[str, str], list[float]] = {}
    refused = set()
    for f in findings:
        groups.setdefault((f.arm, f.check), []).append(f.value)
        if f.verdict == "not estimable":
            refused.add((f.arm, f.check.split(" (")[0]))
    rows = []
    for arm in dict.fromkeys(f.arm for f in findings):
        cells = []
        for checks in columns.values():
            found = _cell([groups[arm, c] for c in checks if (arm, c) in groups])
            if any((arm, check) in refused for check in checks):
                found = f"{found} (elsewhere not estimable)" if found else "not estimable"
            cells.append(found)
        if any(cells):
            rows.append([arm, *cells])
    return Table(f"Part {part}: where every arm falls", ["arm", *columns], rows)


def _cell(values: list[list[float]]) -> str:
    """A check: its spread over seeds. Of one seed with a half beside it: value ± half."""
    if not values:
        return ""
    if len(values) == 1 or len(values[0]) > 1:
        return str(Spread.of(values[0]))
    return f"{values[0][0]:.3f} ± {values[1][0]:.3f}"


def _with_half(check: str) -> tuple[str, str]:
    return (check, f"{check}, half of the 95 % interval")


_LANGUAGE: dict[str, tuple[str, ...]] = {
    "KL": _with_half("KL to the reference"),
    "KL at least": ("KL to the reference, at least",),
    "KL at most": ("KL to the reference, at most",),
    "E[r]": _with_half("E[r]"),
    "E[r] above the reference's": (above("E[r]"),),
    "gap": ("gap to the frontier",),
    "E[log p_ref]": _with_half("E[log p_ref]"),
    "KL of answers": ("KL of the answers",),
    "accuracy": _with_half("accuracy"),
    "every step right": _with_half("every step right"),
}
_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "tokens": {
        "E[r]": ("E[r]",),
        "KL": ("KL to the reference",),
        "gap": ("gap to the frontier",),
        "TV to pi*": ("TV to pi*",),
        "fitted beta": ("fitted beta",),
        "TV at the fitted beta": ("TV to pi* at the fitted beta",),
    },
    "embedded": _LANGUAGE,
    "policy": _LANGUAGE,
}
