"""report.md and report.html: the same sentences, tables and plots in two formats."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2

from pipeline.duality import names
from pipeline.duality.findings import Finding, Kind, PartResults, SeedMean, failed_self_checks
from pipeline.duality.report import plots
from pipeline.duality.report.sentences import what_we_measured
from pipeline.duality.report.verdicts import judge_claims
from pipeline.store.files import Folder


@dataclass(frozen=True)
class Table:
    """A table of texts with a title."""

    title: str
    header: list[str]
    rows: list[list[str]]


def write(folder: Folder, parts: Sequence[PartResults], seconds: dict[str, float]) -> None:
    """Write the report and its plots into the run folder."""
    findings = [f for results in parts for f in results.findings]
    pictures = plots.draw(parts)
    for name, (_, picture) in pictures.items():
        folder.write(f"plots/{name}.png", picture)
    values = {
        "failures": [str(finding) for finding in failed_self_checks(findings)],
        "positives": _count(findings, "positive"),
        "controls": _count(findings, "control"),
        "seeds": sorted({f.seed for f in findings}),
        "seconds": {part: f"{value:.0f}" for part, value in seconds.items()},
        "claims": judge_claims(findings),
        "measured": what_we_measured(findings),
        "tables": tables(findings),
    }
    # Pictures stand inside the HTML page, so that it can be sent as one file.
    encoded = {
        name: (caption, base64.b64encode(picture).decode())
        for name, (caption, picture) in pictures.items()
    }
    captions = {name: caption for name, (caption, _) in pictures.items()}
    folder.write("report.md", _render("report.md.j2", values | {"plots": captions}))
    folder.write("report.html", _render("report.html.j2", values | {"plots": encoded}))


def _count(findings: Sequence[Finding], kind: Kind) -> int:
    return len([finding for finding in findings if finding.kind == kind])


def _render(name: str, values: dict[str, object]) -> bytes:
    # StrictUndefined: a misspelt name is an error and not an empty place.
    environment = jinja2.Environment(
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    source = (files("pipeline.duality.report") / "templates" / name).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values).encode()


def tables(findings: Sequence[Finding]) -> list[Table]:
    """For each part the checks and controls, then the arms with their numbers side by side."""
    result = []
    for part in dict.fromkeys(f.part for f in findings):
        of_part = [f for f in findings if f.part == part]
        checks = [f for f in of_part if f.kind != "report"]
        if checks:
            result.append(_checks(part, checks))
        columns = _COLUMNS.get(part)
        if columns:
            result.append(_arms(part, [f for f in of_part if f.kind == "report"], columns))
    return result


def _checks(part: str, findings: list[Finding]) -> Table:
    groups: dict[tuple[str, str], list[Finding]] = {}
    for f in findings:
        groups.setdefault((f.check, f.arm), []).append(f)
    rows = []
    for (check, arm), group in groups.items():
        first = group[0]
        required = "must hold" if first.kind == "positive" else "must fail"
        verdicts = sorted({f.verdict for f in group})
        rows.append(
            [
                check,
                arm,
                str(SeedMean.of([f.value for f in group])),
                f"{max(f.threshold or 0 for f in group):.3g}",
                required,
                " and ".join(verdicts) + (f" ({len(group)} seeds)" if len(group) > 1 else ""),
            ]
        )
    header = ["check", "arm", "value", "threshold", "required", "verdict"]
    return Table(f"Part {part}: checks and controls", header, rows)


def _arms(part: str, findings: list[Finding], columns: dict[str, tuple[str, ...]]) -> Table:
    """One row for each arm. A column shows a number and, if it has one, its interval."""
    groups: dict[tuple[str, str], list[float]] = {}
    not_estimable = set()
    for f in findings:
        groups.setdefault((f.arm, f.check), []).append(f.value)
        if f.verdict == "not estimable":
            not_estimable.add((f.arm, f.check.split(" (")[0]))
    rows = []
    for arm in dict.fromkeys(f.arm for f in findings):
        cells = []
        for checks in columns.values():
            cell = _cell([groups[arm, c] for c in checks if (arm, c) in groups])
            if any((arm, check) in not_estimable for check in checks):
                # Estimable on the prompts of some seeds only.
                cell = f"{cell} (not estimable for some seeds)" if cell else "not estimable"
            cells.append(cell)
        if any(cells):
            rows.append([arm, *cells])
    return Table(f"Part {part}: all arms", ["arm", *columns], rows)


def _cell(values: list[list[float]]) -> str:
    """values: of a check, and of its half-width if it has one; one value for each seed. Shown is
    the mean over seeds; with one seed the value and its half-width."""
    if not values:
        return ""
    if len(values) == 1 or len(values[0]) > 1:
        return str(SeedMean.of(values[0]))
    return f"{values[0][0]:.3f} ± {values[1][0]:.3f}"


def _with_interval(check: str) -> tuple[str, str]:
    return (check, names.half_width(check))


# Columns of the tables of arms: header, names of the checks.
_LANGUAGE: dict[str, tuple[str, ...]] = {
    "KL": _with_interval(names.KL),
    "KL at least": (names.KL_LOW,),
    "KL at most": (names.KL_HIGH,),
    "E[r]": _with_interval(names.REWARD),
    "E[r] minus the reference's": (names.above_reference(names.REWARD),),
    "gap": (names.GAP,),
    "E[log p_ref]": _with_interval(names.LOG_REF),
    "KL of answers": (names.ANSWER_KL,),
    "accuracy": _with_interval(names.ACCURACY),
    "every step correct": _with_interval(names.ALL_STEPS),
}
_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "tokens": {
        "E[r]": (names.REWARD,),
        "KL": (names.KL,),
        "gap": (names.GAP,),
        "TV to pi*": (names.TV,),
        "fitted beta": (names.FITTED_BETA,),
        "TV at the fitted beta": (names.FITTED_TV,),
    },
    "language": _LANGUAGE,
    "checkpoints": _LANGUAGE,
}
