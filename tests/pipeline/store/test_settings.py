"""Settings of the store that make no sense are refused by name."""

import pytest

from pipeline.store.settings import Store


@pytest.mark.parametrize("name", ["flush_rows", "rows_per_file", "threads"])
def test_counts_are_at_least_one(name):
    assert getattr(Store(**{name: 1}), name) == 1
    with pytest.raises(ValueError, match=rf"store\.{name} must be at least 1, got 0"):
        Store(**{name: 0})


@pytest.mark.parametrize("name", ["flush_seconds", "lease_seconds"])
def test_seconds_are_above_zero(name):
    assert getattr(Store(**{name: 0.1}), name) == 0.1
    with pytest.raises(ValueError, match=rf"store\.{name} must be above 0, got 0"):
        Store(**{name: 0})
