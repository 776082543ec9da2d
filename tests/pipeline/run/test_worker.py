"""What a worker does with the ledger's decision, without Ray."""

import asyncio
import json
import pickle
from concurrent.futures import Future
from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipeline.run.ledger import Action, Decision, Process
from pipeline.run.prompt_status import PromptState, PromptStatus, from_table
from pipeline.run.worker import Worker
from tests.pipeline.rows import item


class Pump:
    """Ends every prompt at once, with `row` or with the error of the commit."""

    def __init__(self, row=None, error=None, cancelled=False):
        self.given_up, self.submitted = [], []
        self._future = Future()
        if cancelled:
            self._future.cancel()
        elif error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(row)

    def submit(self, item, attempt):
        self.submitted.append(attempt)
        return self._future

    def give_up(self, item, attempt, reason):
        self.given_up.append((attempt, reason))
        return self._future


def worker(decision, pump=None, *, isolated=False):
    """A worker whose ledger always gives one decision, and the calls of that ledger."""
    calls = []

    async def begin(key, process, group):
        calls.append((key, group))
        return decision

    async def end(key, error):
        calls.append((key, error))

    made = Worker.__new__(Worker)
    made._load_error = None
    made._isolated = isolated
    made._process = Process("w", "node")
    made._window = asyncio.Semaphore(2)
    made._pump = pump
    made._maker = SimpleNamespace(numbers=lambda row: {"reward": row["reward"]})
    made._ledger = SimpleNamespace(
        begin=SimpleNamespace(remote=begin),
        end=SimpleNamespace(remote=end),
    )
    return made, calls


def reports(made, *names):
    items = pa.array([pickle.dumps(item(name)) for name in names], pa.binary())
    return list(from_table(asyncio.run(made(pa.table({"item": items})))))


@pytest.mark.parametrize(
    ("decision", "state", "detail"),
    [
        (Decision(Action.STOP), PromptState.STOPPED, ""),
        (Decision(Action.DEFER), PromptState.DEFERRED, ""),
        (Decision(Action.SKIP), PromptState.ALREADY_COMMITTED, ""),
        (Decision(Action.SKIP, reason="E: bad"), PromptState.DEAD, "E: bad"),
    ],
)
def test_a_prompt_that_must_not_run_is_reported_and_not_started(decision, state, detail):
    made, calls = worker(decision)
    assert reports(made, "a") == [PromptStatus(("a", 0), state, detail)]
    assert calls == [(("a", 0), 0)]


def test_a_committed_row_is_reported_with_its_numbers_and_flops_and_entered_in_the_ledger():
    pump = Pump({"error": None, "reward": 0.5, "cost": {"flops": 7.0}})
    made, calls = worker(Decision(Action.RUN, attempt=2), pump)
    (status,) = reports(made, "a")
    assert status.state is PromptState.DONE
    assert json.loads(status.detail) == {"reward": 0.5, "flops": 7.0}
    assert pump.submitted == [2]
    assert calls[-1] == (("a", 0), None)


def test_a_dead_letter_is_reported_with_its_error():
    made, calls = worker(Decision(Action.RUN), Pump({"error": "ValueError: bad"}))
    assert reports(made, "a") == [PromptStatus(("a", 0), PromptState.DEAD, "ValueError: bad")]
    assert calls[-1] == (("a", 0), "ValueError: bad")


def test_a_prompt_that_is_given_up_becomes_a_dead_letter_without_running():
    pump = Pump({"error": "WorkerDied: 3 processes"})
    made, _ = worker(Decision(Action.GIVE_UP, 3, "WorkerDied: 3 processes"), pump)
    assert reports(made, "a")[0].state is PromptState.DEAD
    assert pump.given_up == [(3, "WorkerDied: 3 processes")]
    assert pump.submitted == []


@pytest.mark.parametrize(
    ("pump", "state", "detail"),
    [
        (Pump(error=OSError("disk full")), PromptState.COMMIT_FAILED, "OSError: disk full"),
        (Pump(cancelled=True), PromptState.STOPPED, ""),
    ],
)
def test_a_row_that_is_not_committed_is_not_entered_in_the_ledger(pump, state, detail):
    made, calls = worker(Decision(Action.RUN), pump)
    assert reports(made, "a") == [PromptStatus(("a", 0), state, detail)]
    assert calls == [(("a", 0), 0)]


def test_the_reports_of_a_task_are_in_its_order_and_suspects_know_their_number():
    made, calls = worker(Decision(Action.DEFER), isolated=True)
    assert [status.key[0] for status in reports(made, "c", "a", "b")] == ["c", "a", "b"]
    assert {group for _, group in calls} == {3}


def test_a_worker_without_models_reports_why_for_every_prompt():
    made, calls = worker(Decision(Action.RUN))
    made._load_error = "no weights"
    states = {(status.state, status.detail) for status in reports(made, "a", "b")}
    assert states == {(PromptState.LOAD_FAILED, "no weights")}
    assert calls == []
