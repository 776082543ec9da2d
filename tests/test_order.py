"""The order in which test files are run; see conftest.py."""

from pathlib import Path

import pytest

from tests.conftest import SLOW_FILES


@pytest.mark.parametrize("name", SLOW_FILES)
def test_a_file_that_is_run_early_exists(name):
    assert (Path(__file__).parent / name).is_file()
