"""The lines that a run prints while it goes on."""

import json
import time

from jobs.display.progress import Progress
from pipeline.run.prompt_status import PromptState, PromptStatus


def test_a_dead_letter_is_printed_word_for_word_in_one_line(capsys):
    detail = f"ValueError: [/INST] is no [bold]token{' of this LM' * 20}"
    Progress().on_status(PromptStatus(("p[/b]", 3), PromptState.DEAD, detail))
    assert capsys.readouterr().err == f"dead letter p[/b]#3: {detail}\n"


def test_without_a_first_response_there_is_no_gain():
    progress = Progress()
    progress.started(100, 50, 0)
    row = {"reward": 2, "base_reward": 2, "proposed": 0, "accepted": 0}
    for n in range(20):
        detail = json.dumps(row | {"correct": n % 2, "base_correct": n % 2})
        progress.on_status(PromptStatus((f"p{n}", 0), PromptState.DONE, detail))
    assert progress.line().split("  ")[4:] == ["reward 2.000", "accuracy 0.500"]


def finished(progress, count):
    row = {"reward": 2, "base_reward": 1, "proposed": 4, "accepted": 1}
    for n in range(count):
        detail = json.dumps(row | {"correct": n % 2, "base_correct": 0})
        progress.on_status(PromptStatus((f"p{n}", 0), PromptState.DONE, detail))


def test_a_line_of_a_log_is_one_line_with_rate_and_time_left():
    progress = Progress()
    progress.started(100_000, 50_000, 0)
    finished(progress, 20)
    parts = progress.line().split("  ")
    assert parts[:2] == ["starting", "50020/100000"]
    assert parts[2].endswith(" rows/s")
    assert parts[3].endswith(" left")
    assert parts[4:] == ["accepted 25%", "reward gain +1.000", "accuracy 0.000 -> 0.500"]


def test_a_rate_below_a_row_a_second_is_shown_by_the_minute(monkeypatch):
    progress = Progress()
    progress.started(100, 0, 0)
    finished(progress, 20)
    monkeypatch.setattr("jobs.display.progress.time.monotonic", lambda: progress._first + 600)
    assert "2.0 rows/min" in progress.line().split("  ")


def test_the_accuracy_of_fewer_than_20_rows_is_not_shown():
    progress = Progress()
    progress.started(100, 90, 0)
    finished(progress, 19)
    assert "reward gain" in progress.line()
    assert "accuracy" not in progress.line()


def test_a_log_gets_a_line_also_while_no_row_ends_and_none_after_the_run(capsys, monkeypatch):
    monkeypatch.setattr("jobs.display.progress.LOG_SECONDS", 0.02)
    shown = ""
    with Progress() as progress:
        progress.started(8, 0, 0)
        progress.phase("running")
        while shown.count("waiting for the first row (models load first)  0/8\n") < 2:
            time.sleep(0.01)
            shown += capsys.readouterr().err
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
    finished(progress, 1)
    assert progress.line().startswith("running  1/8")
    assert progress.committed() == "1 of 8 rows committed"


def test_an_id_that_looks_like_an_emoji_is_printed_as_it_is(capsys):
    Progress().on_status(PromptStatus(("gsm8k:100:7", 0), PromptState.DEAD, "E: :key:"))
    assert capsys.readouterr().err == "dead letter gsm8k:100:7#0: E: :key:\n"
