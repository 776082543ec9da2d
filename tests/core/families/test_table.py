"""The table of families in the README is the list of what is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.core.families import catalogue

README = Path(__file__).parents[3] / "nabla_core" / "README.md"
ROWS = {
    "LM: equal": catalogue.LANGUAGE_MODELS,
    "reward model: equal": catalogue.REWARD_MODELS,
    "LM: refused": catalogue.REFUSED_LANGUAGE_MODELS,
    "reward model: refused": catalogue.REFUSED_REWARD_MODELS,
}


@pytest.mark.parametrize("title", ROWS)
def test_the_table_lists_the_families_that_are_tested(title: str):
    (cells,) = re.findall(rf"^\| {title} (.*) \|$", README.read_text(), re.MULTILINE)
    count, names = cells.split(" | ")
    assert re.findall(r"`([^`]+)`", names) == list(ROWS[title])
    assert count == f"({len(ROWS[title])})"


def test_as_many_families_are_tested_as_were_promised():
    assert len(catalogue.LANGUAGE_MODELS) >= 38
    assert len(catalogue.REWARD_MODELS) >= 28
