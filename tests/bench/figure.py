"""The figure of README.md: accuracy against cost, drawn from the arms that tests.bench.gain stored.

    python -m tests.bench.figure [tests/bench/figures]

Reads DIR/gain.json and writes DIR/gain-light.svg and DIR/gain-dark.svg. No model is run. Prints
the points as a table, then one JSON object with the same figures.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from tests.bench.arguments import show_help

FOLDER = Path("tests/bench/figures")
Family = Literal["sampling", "null", "gradient", "head", "tuned"]
Arms = dict[str, dict[str, Any]]
Offset = tuple[int, int] | None


@dataclass(frozen=True)
class Point:
    """One labelled arm, and the offset of its label from it in pixels, for each panel: x below 0
    puts the label to the left of the point, x = 0 centres it; None leaves it out."""

    arm: str
    label: str
    family: Family
    by_flops: Offset
    by_calls: Offset


BEST_OF = [f"best of {n}" for n in (2, 4, 8, 16, 32, 64)]
POINTS = [
    Point("greedy", "greedy", "sampling", (0, -24), (0, 32)),
    Point("majority of 8", "majority of 8", "sampling", (-1, 32), (12, 8)),
    Point("best of 2", "", "sampling", None, None),
    Point("best of 4", "", "sampling", None, None),
    Point("best of 8", "best of 8", "sampling", (0, -22), (0, -22)),
    Point("best of 16", "", "sampling", None, None),
    Point("best of 32", "", "sampling", None, None),
    Point("best of 64", "best of 64", "sampling", (0, -22), (0, -22)),
    Point("null: random flip", "random flips", "null", (12, 0), (12, 0)),
    Point("null: second choice", "LM's second choice", "null", (12, 6), (12, 6)),
    Point("null: ranked, no gradient", "ranked by likelihood", "null", (-12, 0), (12, -5)),
    Point("Adam .01 tau .5, guide + judge", "published", "gradient", (11, 7), (0, -26)),
    Point("Adam 1, guide + judge", "Adam 1.0", "gradient", (12, -6), (-12, 0)),
    Point("mirror left to right, guide + judge", "mirror step", "gradient", (-20, 10), (10, 32)),
    Point("ranked, judge in both roles", "ranked, judge's gradient", "gradient", (12, 8), (12, 6)),
    Point("ranked, guide + judge", "ranked, trained gradient", "gradient", (12, -6), (16, -24)),
    Point("ranked, gold-free head + judge (default)", "search", "head", (22, 10), (14, 9)),
    Point("guided, beta 1/4", "guided decoding", "head", (12, -14), (6, -20)),
    Point("the LM tuned on the same data, greedy", "tuned LM", "tuned", (-6, 32), (-8, 22)),
]
# The tuned LM is not shipped, so tests.bench.gain cannot run it. tests.bench.guides measured it on
# the same 2,000 prompts (tests/bench/README.md, "Which guide pays?").
QUOTED: Arms = {
    "the LM tuned on the same data, greedy": {
        "accuracy": 0.900,
        "accuracy_interval": [0.887, 0.913],
        "trace": 0.872,
        "prompts": 2000,
        "draw_seeds": 1,
        "calls": 17.0,
        "mflop": 25.0,
    }
}
LEGEND: dict[Family, str] = {
    "sampling": "sampling",
    "null": "search, no guide",
    "gradient": "search, gradient guide",
    "head": "head guide (guided decoding: default)",
    "tuned": "tuned LM, no search",
}
# Colours of Okabe and Ito, which colour-blind readers can tell apart; families differ in shape too.
PALETTES: dict[str, dict[str, str]] = {
    "light": {
        "background": "#ffffff",
        "text": "#1f2328",
        "grid": "#d9dde1",
        "sampling": "#59636e",
        "null": "#a86a00",
        "gradient": "#0072b2",
        "head": "#c44900",
        "tuned": "#00795a",
    },
    "dark": {
        "background": "#0d1117",
        "text": "#e6edf3",
        "grid": "#2b323b",
        "sampling": "#a3adb8",
        "null": "#e69f00",
        "gradient": "#56b4e9",
        "head": "#ff8a4c",
        "tuned": "#2fc79a",
    },
}
TITLE = "Accuracy against cost of every decoding method on the embedded task"
WIDTH, HEIGHT, TOP, BOTTOM = 1000, 500, 52, 440
ACCURACIES, LOWEST, HIGHEST = (0.5, 0.6, 0.7, 0.8, 0.9), 0.42, 0.95
TICKS = (20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Panel:
    """One cost on a log axis between two x coordinates."""

    cost: Literal["mflop", "calls"]
    title: str
    left: float
    right: float
    least: float
    most: float

    def x(self, cost: float) -> float:
        """The x coordinate of a cost."""
        share = math.log(cost / self.least) / math.log(self.most / self.least)
        return self.left + share * (self.right - self.left)

    def offset(self, point: Point) -> Offset:
        """Where the label of a point goes."""
        return point.by_flops if self.cost == "mflop" else point.by_calls


PANELS = (
    Panel("mflop", "MFLOP per prompt, estimated (log scale)", 46, 515, 16, 2000),
    Panel("calls", "calls per prompt (log scale)", 535, 1000, 11, 1600),
)


def main() -> None:
    show_help(__doc__)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    arms = draw(folder)
    print(f"{'arm':44}{'accuracy':>10}{'interval':>17}{'trace':>8}{'calls':>9}{'MFLOP':>9}")
    for name, a in arms.items():
        low, high = a["accuracy_interval"]
        print(
            f"{name:44}{a['accuracy']:10.3f}{low:11.3f} {high:.3f}{a['trace']:8.3f}"
            f"{a['calls']:9.1f}{a['mflop']:9.1f}"
        )
    print(json.dumps(arms))


def store(folder: Path, arms: Arms) -> None:
    """Write the arms to gain.json; those that it has and that are not given stay."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gain.json"
    known: Arms = json.loads(path.read_text()) if path.exists() else {}
    rows = ",\n".join(f"{json.dumps(n)}: {json.dumps(a)}" for n, a in (known | arms).items())
    path.write_text(f"{{\n{rows}\n}}\n")


def draw(folder: Path) -> Arms:
    """Draw both SVG files from gain.json, and return the arms. Raises FileNotFoundError if there
    is no gain.json."""
    arms: Arms = json.loads((folder / "gain.json").read_text()) | QUOTED
    for theme, colours in PALETTES.items():
        (folder / f"gain-{theme}.svg").write_text("\n".join(svg(arms, colours)) + "\n")
    return arms


def svg(arms: Arms, colours: dict[str, str]) -> Iterator[str]:
    """The lines of one SVG file. Text stays text, in the reader's own font."""
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    yield f"<title>{TITLE}</title>"
    yield "<style>"
    yield "text { font: 14px 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif }"
    yield f"text, .text {{ fill: {colours['text']} }} .head text, text.head {{ font-weight: 600 }}"
    for family in LEGEND:
        yield f".{family} {{ fill: {colours[family]}; stroke: {colours[family]} }}"
    yield f"text[class] {{ stroke: none }} .tuned.mark {{ fill: {colours['background']} }}"
    yield "</style>"
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{colours["background"]}"/>'
    yield from _legend()
    for panel in PANELS:
        yield from _axes(panel, colours)
        yield from _points(panel, arms, colours)
    yield (
        f'<text transform="translate(14 {(TOP + BOTTOM) / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">accuracy</text>'
    )
    yield "</svg>"


def _y(accuracy: float) -> float:
    return BOTTOM - (accuracy - LOWEST) / (HIGHEST - LOWEST) * (BOTTOM - TOP)


def _legend() -> Iterator[str]:
    x = 52
    for family, text in LEGEND.items():
        yield _mark(family, x, 22)
        yield f'<text x="{x + 12}" y="27">{text}</text>'
        x += 40 + round(7.4 * len(text))


def _axes(panel: Panel, colours: dict[str, str]) -> Iterator[str]:
    for accuracy in (LOWEST, *ACCURACIES):
        y = _y(accuracy)
        yield (
            f'<path d="M{panel.left} {y:.1f}H{panel.right}" stroke="{colours["grid"]}" '
            'stroke-width="1"/>'
        )
        if panel is PANELS[0] and accuracy in ACCURACIES:
            label = f"{accuracy:.1f}".removeprefix("0")
            yield f'<text x="{panel.left - 5}" y="{y + 5:.1f}" text-anchor="end">{label}</text>'
    for tick in TICKS:
        yield (
            f'<text x="{panel.x(tick):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{tick:,}</text>'
        )
    middle = (panel.left + panel.right) / 2
    yield f'<text x="{middle}" y="{BOTTOM + 46}" text-anchor="middle">{panel.title}</text>'


def _points(panel: Panel, arms: Arms, colours: dict[str, str]) -> Iterator[str]:
    line = [arms[name] for name in BEST_OF if name in arms]
    corners = "L".join(f"{panel.x(a[panel.cost]):.1f} {_y(a['accuracy']):.1f}" for a in line)
    yield f'<path d="M{corners}" fill="none" stroke="{colours["sampling"]}" opacity=".6"/>'
    for point in (p for p in POINTS if p.arm in arms):
        arm = arms[point.arm]
        x, y = panel.x(arm[panel.cost]), _y(arm["accuracy"])
        low, high = (_y(bound) for bound in arm["accuracy_interval"])
        yield (
            f'<path class="{point.family}" d="M{x:.1f} {low:.1f}V{high:.1f}" stroke-width="1.3"/>'
        )
        yield _mark(point.family, x, y)
        offset = panel.offset(point)
        if offset is not None:
            yield _label(point, x + offset[0], y + offset[1] + 5, offset[0])


def _mark(family: Family, x: float, y: float) -> str:
    match family:
        case "null":
            return (
                f'<rect class="{family}" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'
            )
        case "head":
            return f'<path class="{family}" d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z"/>'
        case "tuned":
            return (
                f'<circle class="{family} mark" cx="{x:.1f}" cy="{y:.1f}" r="5" stroke-width="2"/>'
            )
        case _:
            return f'<circle class="{family}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def _label(point: Point, x: float, y: float, side: int) -> str:
    anchor = "middle" if side == 0 else "start" if side > 0 else "end"
    return (
        f'<text class="{point.family}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(point.label)}</text>"
    )


if __name__ == "__main__":
    main()
