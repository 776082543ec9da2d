"""The lines that a run prints while it goes on."""

import json

from jobs.progress import Progress
from pipeline.run.prompt_status import PromptState, PromptStatus


def test_a_dead_letter_is_printed_word_for_word_in_one_line(capsys):
    detail = f"ValueError: [/INST] is no [bold]token{' of this LM' * 20}"
    Progress().on_status(PromptStatus(("p[/b]", 3), PromptState.DEAD, detail))
    assert capsys.readouterr().err == f"dead letter p[/b]#3: {detail}\n"


def test_a_line_of_a_log_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("jobs.progress.LOG_SECONDS", 0)
    progress = Progress()
    progress.started(100_000, 50_000, 0)
    row = {"reward": 2, "base_reward": 1, "proposed": 4, "accepted": 1}
    for n in range(2):
        detail = json.dumps(row | {"correct": n, "base_correct": 0})
        progress.on_status(PromptStatus((f"p{n}", 0), PromptState.DONE, detail))
    started, *lines = capsys.readouterr().err.splitlines()
    assert started == "100000 rows, 50000 of them committed before"
    assert len(lines) == 2
    assert lines[1].startswith("starting  50002/100000  ")
    assert lines[1].endswith(" left  accepted 25%  reward gain +1.000  accuracy 0.000 -> 0.500")


def test_an_id_that_looks_like_an_emoji_is_printed_as_it_is(capsys):
    Progress().on_status(PromptStatus(("gsm8k:100:7", 0), PromptState.DEAD, "E: :key:"))
    assert capsys.readouterr().err == "dead letter gsm8k:100:7#0: E: :key:\n"
