"""The figure is drawn from stored arms alone."""

import json
import xml.etree.ElementTree as ET

from tests.bench import figure

ARM = {
    "accuracy": 0.6,
    "accuracy_interval": [0.5, 0.7],
    "trace": 0.5,
    "prompts": 100,
    "draw_seeds": 1,
    "calls": 20.0,
    "mflop": 30.0,
}


def test_arms_that_are_not_measured_again_are_kept(tmp_path):
    figure.store(tmp_path, {"greedy": ARM, "best of 2": ARM})
    figure.store(tmp_path, {"greedy": ARM | {"accuracy": 0.65}})
    stored = json.loads((tmp_path / "gain.json").read_text())
    assert list(stored) == ["greedy", "best of 2"]
    assert [arm["accuracy"] for arm in stored.values()] == [0.65, 0.6]


def test_both_files_are_drawn_and_label_every_arm_in_both_panels(tmp_path):
    labelled = [p for p in figure.POINTS if p.by_flops]
    figure.store(tmp_path, {point.arm: ARM for point in figure.POINTS})
    drawn = figure.draw(tmp_path)
    assert {p.arm for p in figure.POINTS} == set(drawn)
    for theme in ("light", "dark"):
        root = ET.parse(tmp_path / f"gain-{theme}.svg").getroot()
        texts = ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")]
        for point in labelled:
            assert texts.count(point.label) == 2


def test_a_cost_is_placed_on_a_log_axis():
    panel = figure.Panel("calls", "calls", left=0, right=100, least=10, most=1000)
    assert [round(panel.x(cost)) for cost in (10, 100, 1000)] == [0, 50, 100]
