"""What Ray Train is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.store.files import Folder
from pipeline.training.config import Workers
from pipeline.training.fit import _trainer


def test_workers_are_told_to_send_nothing_to_the_authors_of_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NABLA_FAILPOINTS", "here|token")
    trainer = _trainer(Folder(str(tmp_path)), lambda settings: None, None, Workers())
    variables = trainer.run_config.worker_runtime_env["env_vars"]
    # TRL reports each training unless this is set before it is imported.
    assert variables["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert variables["NABLA_FAILPOINTS"] == "here|token"
