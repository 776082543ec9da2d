"""The lines that a training prints while it goes on."""

from jobs.display import training_progress
from pipeline.training.progress import Progress


def test_a_log_gets_a_line_at_once_and_further_ones_while_no_step_ends(capsys, monkeypatch):
    monkeypatch.setattr(training_progress, "LOG_SECONDS", 0.02)
    shown = ""
    with training_progress.Progress() as progress:
        shown += capsys.readouterr().err
        assert shown == f"{training_progress.PREPARING} (0:00)\n"
        while shown.count(training_progress.PREPARING) < 3:
            shown += capsys.readouterr().err
        progress.show(Progress(step=2, steps=9, seconds=60.0))
        while shown.count("step 2/9  60.00 s/step") < 2:  # a step that takes long
            shown += capsys.readouterr().err
    capsys.readouterr()
    assert not progress._thread.is_alive()
    assert progress.reached() == "after step 2 of 9, its checkpoints kept"


def test_measuring_after_the_last_step_is_told_from_training(capsys, monkeypatch):
    monkeypatch.setattr(training_progress, "LOG_SECONDS", 0.02)
    shown = ""
    with training_progress.Progress() as progress:
        progress.show(Progress(step=8, steps=9, seconds=60.0))
        progress.show(Progress(step=9, steps=9, seconds=60.0))
        while shown.count(training_progress.FINISHING) < 3:
            shown += capsys.readouterr().err
    assert "step 9/9" not in shown
