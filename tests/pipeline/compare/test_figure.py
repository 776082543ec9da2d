"""The figures of a comparison."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pipeline.compare.config import Bootstrap
from pipeline.compare.figure import AXES, _panel, distances_svg, svg
from pipeline.compare.results import SPENT, Step
from pipeline.compare.summary import summarise
from tests.pipeline.compare.arms import arm

figure = pytest.importorskip("matplotlib.figure")


def test_an_arm_and_a_curve_have_one_colour_in_all_panels():
    """The curve of a search has no seconds: its panel leaves it out."""
    two = {"p": [(1.0, True), (0.5, False)], "q": [(2.0, False), (1.0, True)]}
    search = arm("search", {prompt: group[:1] for prompt, group in two.items()})
    spent = dict.fromkeys(SPENT, 0.5)
    search.responses = {
        prompt: [replace(one, steps=[Step(False, one.reward, spent)]) for one in group]
        for prompt, group in search.responses.items()
    }
    found = summarise([search, arm("sample", two)], "search", Bootstrap(resamples=200))
    assert [curve.kind for curve in found.curves][:2] == ["at most k proposals", "pass@k"]
    colours = []
    for cost in AXES:
        axis = figure.Figure().subplots()
        _panel(axis, found.arms, found.curves, cost, graded=True)
        handles, labels = axis.get_legend_handles_labels()
        lines = [getattr(handle, "lines", (handle,))[0] for handle in handles]
        named = zip(labels, lines, strict=True)
        colours.append({label: line.get_color() for label, line in named})
    *whole, seconds = colours
    assert whole[0] == whole[1] == whole[2]
    assert "search: at most k proposals" in whole[0]
    assert seconds == {k: v for k, v in whole[0].items() if "proposals" not in k}
    for drawn in (svg(found), distances_svg(found)):
        ElementTree.fromstring(drawn)
