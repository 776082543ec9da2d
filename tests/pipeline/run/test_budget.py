"""What a run may spend, and what it has spent."""

import json

import pyarrow as pa
import pytest

from pipeline.run import budget as module
from pipeline.run.budget import Budget, Spending
from pipeline.run.prompt_status import PromptState, PromptStatus


def row(flops, state=PromptState.DONE):
    detail = json.dumps({"flops": flops}) if state is PromptState.DONE else "E: bad"
    return PromptStatus(("p", 0), state, detail)


def test_without_a_limit_nothing_is_reached():
    spending = Spending(Budget())
    spending.add(row(1e30))
    assert spending.reached(10**9) is None


def test_flops_are_those_of_committed_rows_of_this_command_and_of_those_before():
    spending = Spending(Budget(flops=100))
    before = pa.table({"cost": [{"flops": 40.0}, None, {"flops": 30.0}]})
    spending.set_flops([before])
    spending.add(row(29.0))
    spending.add(row(0, PromptState.DEAD))
    spending.add(PromptStatus(("q", 0), PromptState.STOPPED))
    assert not spending.are_flops_spent()
    spending.add(row(1.0))
    assert spending.reached(0) == "budget.flops=100"


def test_rows_of_a_run_without_a_limit_of_flops_are_not_read():
    def unread():
        raise AssertionError
        yield

    Spending(Budget(rows=3)).set_flops(unread())


def test_the_time_is_that_of_one_command(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    spending = Spending(Budget(rows=9, seconds=60))
    now[0] += 59
    assert spending.reached(8) is None
    now[0] += 1
    assert spending.reached(8) == "budget.seconds=60"
    assert spending.reached(9) == "budget.rows=9"


@pytest.mark.parametrize("limit", [{"rows": 0}, {"flops": -1.0}, {"seconds": 0.0}])
def test_a_limit_that_allows_nothing_is_refused(limit):
    (name,) = limit
    with pytest.raises(ValueError, match=f"^budget.{name} must be above 0, got "):
        Budget(**limit)
