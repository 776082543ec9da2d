"""Measurements are shown while workers write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.store.files import Folder
from pipeline.train_guide import progress
from pipeline.train_guide.folder import HISTORY
from pipeline.train_guide.progress import followed


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
