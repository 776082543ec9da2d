"""Damaged files of a training are one clear error, or are written again."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from nabla_core.errors import ModelError
from pipeline.errors import DamagedError, PlacementError, RunError
from pipeline.store.files import Folder
from pipeline.training import fit as training
from pipeline.training.checksums import write_checksums
from pipeline.training.config import Workers
from pipeline.training.failure import raise_failure, write_failure
from pipeline.training.fit import SNAPSHOT, deliver, fit
from pipeline.training.folder import FAILED, HISTORY
from pipeline.training.history import read_history, write_history
from pipeline.training.progress import followed
from tests.pipeline.training.damage import DAMAGES

WHOLE = {"measurements": [{"step": 2, "loss": 0.5}], "skipped": []}


@pytest.fixture(params=DAMAGES)
def damage(request, tmp_path):
    """Damages a file of the folder in each way."""

    def apply(name: str) -> Folder:
        path = tmp_path / name
        path.write_bytes(DAMAGES[request.param](path.read_bytes()))
        return Folder(str(tmp_path))

    return apply


def test_a_whole_history_is_read(tmp_path: Path):
    folder = Folder(str(tmp_path))
    assert read_history(folder) is None
    write_history(folder, WHOLE)
    assert read_history(folder) == WHOLE


def test_a_damaged_history_counts_as_none_and_what_is_written_next_is_shown(tmp_path, damage):
    write_history(Folder(str(tmp_path)), WHOLE)
    folder, shown = damage(HISTORY), []
    assert read_history(folder) is None
    with followed(folder, lambda measurement: shown.append(measurement["step"])):
        write_history(folder, WHOLE)
    assert shown == [2]


def test_no_guide_is_delivered_with_a_damaged_history(tmp_path, damage):
    write_history(Folder(str(tmp_path)), WHOLE)
    with pytest.raises(RunError, match=r"history\.json is damaged: the same command writes it"):
        deliver(damage(HISTORY), SimpleNamespace(best_checkpoints=[]), "guide")
    assert not (tmp_path / "guide").exists()


def test_no_damaged_model_is_delivered(tmp_path, damage):
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "model").mkdir(parents=True)
    (checkpoint / "model" / "weights").write_bytes(b"as they were saved")
    write_checksums(checkpoint)
    write_history(Folder(str(tmp_path)), WHOLE)
    best = SimpleNamespace(as_directory=lambda: nullcontext(str(checkpoint)))
    result = SimpleNamespace(best_checkpoints=[(best, {"selection_score": 1.0, "step": 2})])
    assert deliver(Folder(str(tmp_path)), result, "student") == (WHOLE, 2)
    assert (tmp_path / "student" / "weights").read_bytes() == b"as they were saved"
    with pytest.raises(DamagedError, match=r"checkpoint is damaged \(model/weights was altered\)"):
        deliver(damage("checkpoint/model/weights"), result, "other")
    assert not (tmp_path / "other").exists()


def test_a_damaged_error_of_a_worker_is_still_an_error(tmp_path, damage):
    write_failure(Folder(str(tmp_path)), ModelError("no weights"))
    with pytest.raises(RunError, match=r"a worker has failed, and .*failed\.json, which held its"):
        raise_failure(damage(FAILED))


def test_a_damaged_list_of_checkpoints_is_named_before_ray_is_started(
    tmp_path, damage, monkeypatch
):
    monkeypatch.setattr(training, "connected", no_ray)
    (tmp_path / "train").mkdir()
    (tmp_path / SNAPSHOT).write_text(json.dumps({"checkpoint_results": []}))
    with pytest.raises(AssertionError, match="Ray was started"):
        fit(Folder(str(tmp_path)), print, None, Workers(), nullcontext())
    with pytest.raises(DamagedError, match="the list of checkpoints, is damaged: restore it, or"):
        fit(damage(SNAPSHOT), print, None, Workers(), nullcontext())


def no_ray(cluster: object) -> None:
    raise AssertionError("Ray was started")


def test_a_training_on_a_local_ray_that_places_no_worker_ends(tmp_path, monkeypatch):
    asked = []

    def refuse(cluster, note):
        asked.append((cluster.cpus_per_actor, cluster.gpus_per_actor))
        raise PlacementError("Ray has placed no actor in 60 s")

    monkeypatch.setattr(training, "connected", lambda cluster: nullcontext())
    monkeypatch.setattr(training, "require_resources", lambda *needed: None)
    monkeypatch.setattr(training, "require_placement", refuse)
    with pytest.raises(PlacementError):
        fit(Folder(str(tmp_path)), print, None, Workers(cpus=0.5, gpu=True), nullcontext())
    assert asked == [(0.5, 1.0)]
