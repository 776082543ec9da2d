import queue
import threading
import time
from types import SimpleNamespace

import pytest
import torch  # noqa: F401 - `!lost` needs it, and importing it takes a while

from nabla_core.config import Decoding
from nabla_core.engines.scripted import Script, scripted
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.errors import RunError
from pipeline.generate.recipe import TraceMaker, TraceRecipe
from pipeline.grading.graders import Verify
from pipeline.run.pump import Pump
from pipeline.store import files
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.tables.traces import TRACES
from tests.pipeline.rows import item

RECIPE = TraceRecipe(
    lm=LM("scripted"),
    reward=Reward(),
    decoding=Decoding(),
    runtime=Runtime(),
    verify=Verify(method="none"),
    seed=0,
    config_hash="c0ffee",
)


def start(folder, *, delay=0.0, fatal=None, hang_seconds=60.0, in_flight=8, **settings):
    store = RunStore(str(folder), with_config(TRACES, "c0ffee"), Store(**settings))
    maker = TraceMaker(RECIPE, scripted(Script(delay=delay)))
    pump = Pump(
        maker, store, worker="w", in_flight=in_flight, hang_seconds=hang_seconds,
        fatal=fatal or pytest.fail,
    )  # fmt: skip
    return pump, store


def test_a_row_is_durable_before_its_future_ends(tmp_path):
    pump, store = start(tmp_path)
    row = pump.submit(item("a"), 1).result(30)
    assert (row["prompt_id"], row["attempt"], row["error"]) == ("a", 1, None)
    assert len(store.parts()) == 1


def test_a_prompt_that_raises_is_a_dead_letter_and_its_neighbours_go_on(tmp_path):
    pump, _ = start(tmp_path)
    futures = [pump.submit(item(n, text=t), 1) for n, t in (("a", "x"), ("b", "!raise"))]
    good, dead = (f.result(30) for f in futures)
    assert good["error"] is None
    assert dead["error"] == "ValueError: the script raises on '!raise'"
    assert dead.get("response") is None


def test_rows_are_grouped_and_the_rest_follows_when_nothing_else_is_in_flight(tmp_path):
    pump, store = start(tmp_path, flush_rows=4, flush_seconds=60, in_flight=1, delay=0.01)
    futures = [pump.submit(item(f"p{n}"), 1) for n in range(10)]
    for future in futures:
        future.result(30)
    assert len(store.parts()) == 3


def test_a_waiting_row_is_flushed_after_its_time_though_others_run(tmp_path):
    pump, store = start(tmp_path, flush_rows=100, flush_seconds=0.3, in_flight=1, delay=0.05)
    quick, *_ = [pump.submit(item(f"p{n}"), 1) for n in range(40)]
    quick.result(30)
    assert len(store.parts()) == 1


def test_a_flush_commits_what_waits(tmp_path):
    pump, store = start(tmp_path, flush_rows=100, flush_seconds=60, in_flight=1, delay=0.2)
    quick, *_ = [pump.submit(item(f"p{n}"), 1) for n in range(20)]
    deadline = time.monotonic() + 30
    while not quick.done() and time.monotonic() < deadline:
        pump.flush().result(30)
    assert quick.done()
    assert len(store.parts()) == 1


def test_giving_up_commits_the_reason(tmp_path):
    pump, _ = start(tmp_path)
    row = pump.give_up(item("a"), 3, "WorkerDied: three times").result(30)
    assert (row["error"], row["attempt"]) == ("WorkerDied: three times", 3)


def test_a_failing_commit_is_tried_again_then_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    pump, store = start(tmp_path)
    failures = iter([OSError("busy"), OSError("busy")])
    commit = store.commit

    def sometimes(rows):
        for failure in failures:
            raise failure
        commit(rows)

    monkeypatch.setattr(store, "commit", sometimes)
    assert pump.submit(item("a"), 1).result(30)["error"] is None

    def never(rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "commit", never)
    with pytest.raises(OSError, match="No space left"):
        pump.submit(item("b"), 1).result(30)


def failing_writer(folder, **settings):
    """A pump whose writer thread fails: no thread can wait for `flush_seconds`."""
    store = RunStore(str(folder), with_config(TRACES, "c0ffee"), Store())
    store.settings = SimpleNamespace(flush_rows=100, flush_seconds=1e11, **settings)
    maker = TraceMaker(RECIPE, scripted(Script(delay=0.05)))
    return Pump(maker, store, worker="w", in_flight=1, hang_seconds=60, fatal=pytest.fail)


@pytest.fixture
def thread_ends():
    """Waits for a thread of the test's pump to end: pytest would report its exception in the next
    test otherwise."""
    before = set(threading.enumerate())

    def wait(name):
        for thread in set(threading.enumerate()) - before:
            if thread.name == name:
                thread.join(30)

    return wait


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_thread_that_fails_fails_every_future_of_then_and_later(tmp_path, thread_ends):
    pump = failing_writer(tmp_path)
    futures = [pump.submit(item(f"p{n}"), 1) for n in range(5)]
    message = "^the writer thread failed: OverflowError: "
    for future in futures:
        with pytest.raises(RunError, match=message):
            future.result(30)
    for later in (pump.submit(item("q"), 1), pump.give_up(item("r"), 3, "why"), pump.flush()):
        with pytest.raises(RunError, match=message):
            later.result(30)
    pump.abandon()
    thread_ends("writer")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_letter_that_cannot_be_made_fails_its_future(tmp_path, monkeypatch, thread_ends):
    pump, _ = start(tmp_path)

    def dead(prompt):
        raise KeyError("question")

    monkeypatch.setattr(pump._maker, "dead", dead)
    with pytest.raises(RunError, match="the writer thread failed: KeyError: 'question'"):
        pump.submit(item("a", text="!raise"), 1).result(30)
    thread_ends("writer")


def test_a_cancelled_flush_ends_no_thread(tmp_path):
    pump, _ = start(tmp_path)
    for _ in range(20):
        pump.flush().cancel()
    assert pump.submit(item("a"), 1).result(30)["error"] is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("thread", "work"), [("engine", "_drive"), ("watchdog", "_watch")])
def test_a_thread_that_the_process_needs_ends_it_with_its_error(
    tmp_path, monkeypatch, thread_ends, thread, work
):
    reasons = queue.SimpleQueue()

    def fails(self):
        raise OverflowError("timestamp too large")

    monkeypatch.setattr(Pump, work, fails)
    start(tmp_path, fatal=reasons.put)
    assert reasons.get(timeout=30) == (
        f"the {thread} thread failed: OverflowError: timestamp too large"
    )
    thread_ends(thread)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("!lost", "the engine is dead: AcceleratorError"), ("!hang", "no progress for 0.5 s")],
)
def test_a_dead_or_stuck_engine_is_reported(tmp_path, text, reason):
    reasons: list[str] = []
    called = threading.Event()

    def fatal(why):
        reasons.append(why)
        called.set()
        time.sleep(3600)

    script = scripted(Script(respond=lambda *_: time.sleep(3600)) if text == "!hang" else None)
    store = RunStore(str(tmp_path), with_config(TRACES, "c0ffee"), Store())
    pump = Pump(
        TraceMaker(RECIPE, script), store, worker="w", in_flight=8, hang_seconds=0.5, fatal=fatal
    )
    pump.submit(item("a", text="x" if text == "!hang" else text), 1)
    assert called.wait(30)
    assert reasons[0].startswith(reason)
    if text == "!hang":
        assert any("time.sleep(3600)" in line for line in pump.engine_stack())
    assert store.parts() == []
