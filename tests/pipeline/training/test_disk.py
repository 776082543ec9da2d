"""A full disk is one error that names it, whatever a library makes of it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import ConfigError, InputError, RunError
from pipeline.store.files import Folder
from pipeline.training.disk import full_disk_named, require_room


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def reads(folder: Path) -> None:
    """As `datasets` does with a cache on a full disk: another error, which comes of that one."""
    try:
        (folder / "cache").write_bytes(bytes(3 << 20))
    except OSError as error:
        raise InputError("cannot read the export") from error


WRITERS: dict[str, Callable[[Path], object]] = {
    "torch": lambda folder: torch.save(torch.zeros(1 << 20), folder / "optimizer.pt"),
    "safetensors": lambda folder: save_file({"a": torch.zeros(1 << 20)}, folder / "m.safetensors"),
    "a file": lambda folder: (folder / "trainer_state.json").write_bytes(bytes(3 << 20)),
    "an error of ours": reads,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("kind", ["run folder", "temporary folder"])
def test_the_disk_that_is_full_is_named(disk, tmp_path, monkeypatch, write, kind):
    of_run = kind == "run folder"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path if of_run else disk))
    folder = Folder(str(disk if of_run else tmp_path / "run"))
    full = f"{kind} {disk}.*: the disk is full: free some, and the same command continues"
    with pytest.raises(RunError, match=full) as error, full_disk_named(folder):
        write(disk)
    assert "\n" not in str(error.value)
    # safetensors takes its file away again, and the disk has room.
    other = "temporary folder" if of_run else "run folder"
    assert (other in str(error.value)) == (write is WRITERS["safetensors"])


def test_an_error_with_another_reason_stays_what_it_is_on_a_full_disk(disk):
    (disk / "full").write_bytes(bytes((2 << 20) - 4096))
    with pytest.raises(ConfigError, match="a key"), full_disk_named(Folder(str(disk))):
        raise ConfigError("a key")


def test_a_checkpoint_goes_only_where_there_is_room_for_it(disk, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "model").mkdir(parents=True)
    (checkpoint / "model" / "weights").write_bytes(bytes(500_000))
    require_room(Folder(str(disk / "run")), checkpoint)
    (checkpoint / "optimizer.pt").write_bytes(bytes(1_000_000))
    with pytest.raises(RunError, match=r"/run: its disk has 2\.1 MB left.* of 1\.5 MB is due"):
        require_room(Folder(str(disk / "run")), checkpoint)
