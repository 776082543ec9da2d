"""Measurements are shown while workers write them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from pipeline.store.files import Folder
from pipeline.training import progress
from pipeline.training.folder import HISTORY
from pipeline.training.progress import followed


def write(folder: Folder, *steps: int) -> None:
    measurements = [{"step": step} for step in steps]
    folder.write(HISTORY, json.dumps({"measurements": measurements}).encode())


def test_each_new_step_is_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "LOCAL_SECONDS", 0.01)
    folder, shown = Folder(str(tmp_path)), []
    write(folder, 2)  # of an earlier attempt
    with followed(folder, lambda m: shown.append(m["step"])):
        write(folder, 2, 4)
        write(folder, 2, 4)  # measured again after a crash
        write(folder, 2, 4, 6)
    assert shown == [4, 6]


def test_what_an_error_leaves_unread_is_not_shown(tmp_path: Path):
    folder, shown = Folder(str(tmp_path)), []

    def fail() -> None:
        with followed(folder, lambda m: shown.append(m["step"])):
            write(folder, 2)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert shown == []


def test_a_failure_of_any_kind_does_not_end_the_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LOCAL_SECONDS", 0.01)
    folder, shown, failed = Folder(str(tmp_path)), [], threading.Event()

    def show(measurement):
        if not failed.is_set():
            failed.set()
            raise ValueError("a damaged history")
        shown.append(measurement["step"])

    with followed(folder, show):
        write(folder, 2)
        assert failed.wait(30)
        write(folder, 2, 4)
        while not shown:
            time.sleep(0.01)
    assert shown == [4]
