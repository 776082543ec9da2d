"""The change log has what this version has."""

from pathlib import Path

import pytest

import nabla_core
from pipeline.renamed_keys import RENAMED

CHANGELOG = (Path(__file__).parents[1] / "CHANGELOG.md").read_text()


def test_this_version_has_a_section():
    assert f"\n## {nabla_core.__version__}\n" in CHANGELOG


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_key_is_listed_with_the_new_one(old):
    (row,) = (line for line in CHANGELOG.splitlines() if line.startswith(f"| `{old}`"))
    new = RENAMED[old].split()[0].strip(",;")
    assert f"| `{new}`" in row
