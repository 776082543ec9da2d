"""Units behind values."""

import pytest

from pipeline.grading.units import Unit, without_unit


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        (r"864 \text{ inches}^2", "864", Unit("in", 2)),
        ("864 square inches", "864", Unit("in", 2)),
        (r"5.4 \text{ cents}", "5.4", Unit("cent")),
        (r"\$36", "36", Unit("dollar")),
        (r"50\%", "50", Unit("%")),
        ("50 percent", "50", Unit("%")),
        (r"90\degree", "90", Unit("degree")),
        ("10 apples", "10", Unit("?")),
        ("3c", "3c", Unit()),
        (r"\text{(C)}", r"\text{(C)}", Unit()),
    ],
)
def test_units(text, value, unit):
    assert without_unit(text) == (value, unit)


def test_units_agree_unless_both_are_known_and_differ():
    assert Unit("cm").agrees(Unit())
    assert Unit("cm").agrees(Unit("?"))
    assert not Unit("cm").agrees(Unit("m"))
    assert not Unit("cm").agrees(Unit("cm", 2))
