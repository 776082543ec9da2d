"""The figures of a comparison."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest

from pipeline.compare.config import Bootstrap
from pipeline.compare.figure import AXES, _panel, distances_svg, svg
from pipeline.compare.labels import Label, place_labels
from pipeline.compare.report import markdown
from pipeline.compare.results import SPENT, Step
from pipeline.compare.summary import summarise
from tests.pipeline.compare.arms import arm

figure = pytest.importorskip("matplotlib.figure")
Text = pytest.importorskip("matplotlib.text").Text
TWO = {"p": [(1.0, True), (0.5, False)], "q": [(2.0, False), (1.0, True)]}


def search():
    """An arm whose two proposals tell what they cost."""
    made = arm("search", {prompt: group[:1] for prompt, group in TWO.items()})
    spent = dict.fromkeys(SPENT, 0.5)
    made.responses = {
        prompt: [replace(one, steps=[Step(False, one.reward, spent)] * 2) for one in group]
        for prompt, group in made.responses.items()
    }
    return made


def test_a_curve_has_the_colour_of_its_arm_in_all_panels():
    """The curve of a search has no seconds: its panel leaves it out."""
    found = summarise([search(), arm("sample", TWO)], "search", Bootstrap(resamples=200))
    assert [curve.kind for curve in found.curves][:2] == ["at most k proposals", "pass@k"]
    panels = []
    for cost in AXES:
        axis = figure.Figure().subplots()
        labels = _panel(axis, found.arms, found.curves, cost, graded=True)
        assert [label.text for label in labels] == ["1", "2"]
        colours = [label.colour for label in labels]
        drawn = [line for line in axis.get_lines() if len(line.get_xdata()) > 1]
        panels.append([(colours.index(line.get_color()), line.get_linestyle()) for line in drawn])
    *whole, seconds = panels
    assert whole[0] == whole[1] == whole[2] == [(0, "-"), (1, ":"), (1, "--"), (1, "-.")]
    assert seconds == whole[0][1:]
    for drawn in (svg(found), distances_svg(found)):
        ElementTree.fromstring(drawn)


def test_the_labels_of_many_arms_do_not_lie_over_one_another():
    drawn = figure.Figure(figsize=(7, 5))
    axis = drawn.subplots()
    labels = [
        Label(x=1 + n % 3, y=0.9 + n / 1e4, low=0.9, high=0.91, text=str(n), colour="C0")
        for n in range(25)
    ]
    axis.plot([1, 10], [0.2, 1.0])
    drawn.draw_without_rendering()  # sets the limits
    place_labels(axis, labels)
    drawn.draw_without_rendering()
    # Of the text alone: that of an annotation has its line too.
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    assert [text.get_text() for text in axis.texts] == [label.text for label in labels]
    # Letters are a little smaller than the places that are kept free for them.
    over = [(a, b) for a, b in combinations(boxes, 2) if a.shrunk(0.8, 0.8).overlaps(b)]
    assert not over
    inside = axis.get_window_extent()
    assert all(inside.x0 < box.x0 and box.x1 < inside.x1 for box in boxes)


def test_a_comparison_of_many_arms_has_tables_of_few_columns():
    arms = [arm(f"arm {n} at $1", TWO) for n in range(25)]
    found = summarise(arms, "arm 0 at $1", Bootstrap(resamples=200))
    widest = max(line.count("|") for line in markdown(found).splitlines())
    assert widest <= 12
    assert len(svg(found)) > 10_000
