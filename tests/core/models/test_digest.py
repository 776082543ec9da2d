"""The digest of a model folder: which bytes it covers, and the cache that saves reading them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nabla_core.errors import ModelError
from nabla_core.models import digest
from nabla_core.models.digest import cache_file, folder_digest, model_files

# Files that make a model; the weights have three chunks, the last of them shorter.
FILES = {
    "model.safetensors": bytes(range(250)) * 10,
    "pytorch_model.bin": b"b" * 70,
    "pytorch_model.bin.index.json": json.dumps({"weight_map": {"w": "parts/1.bin"}}).encode(),
    "parts/1.bin": b"p" * 90,
    "config.json": b"{}",
    "generation_config.json": b"{}",
    "tokenizer.json": b"{}",
    "tokenizer.model": b"spiece",
    "merges.txt": b"a b",
    "chat_template.jinja": b"{{ messages }}",
    "additional_chat_templates/rag.jinja": b"{{ documents }}",
    "modeling_own.py": b"pass",
}
OTHERS = {
    "card.json": b"{}",
    "README.md": b"about",
    "README.txt": b"about",
    "LICENSE.txt": b"free",
    "trainer_state.json": b"{}",
    "optimizer.pt": b"moments",
    "rng_state_0.pth": b"state",
    ".cache.json": b"{}",
    "checkpoint-5/model.safetensors": b"older",
    "train.log": b"step 1",
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all these files, and digests in chunks of 1,000 bytes that are all kept."""
    monkeypatch.setattr(digest, "CHUNK", 1000)
    monkeypatch.setattr(digest, "BLOCK", 300)
    monkeypatch.setattr(digest, "MIN_CACHED", 0)
    monkeypatch.setattr(digest, "SETTLED_SECONDS", float("-inf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    for name, content in (FILES | OTHERS).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files whose chunks are read."""
    names: list[str] = []
    whole = digest._chunk_digest

    def counted(chunk: tuple[Path, int]) -> bytes:
        names.append(chunk[0].name)
        return whole(chunk)

    monkeypatch.setattr(digest, "_chunk_digest", counted)
    return names


def flip(file: Path, place: int) -> None:
    """Change one bit and keep size and modification time."""
    found, before = bytearray(file.read_bytes()), file.stat()
    found[place] ^= 1
    file.write_bytes(bytes(found))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_digest_is_that_of_the_chunks_of_all_files(model: Path):
    folder = hashlib.sha256()
    for name in sorted(FILES):
        content, file = FILES[name], hashlib.sha256()
        for start in range(0, len(content), 1000):
            file.update(hashlib.sha256(content[start : start + 1000]).digest())
        folder.update(f"{name}\0{len(content)}\0{file.hexdigest()}\n".encode())
    for threads in (1, 2, 8):
        cache_file().unlink(missing_ok=True)
        assert folder_digest(model, threads=threads) == f"sha256:{folder.hexdigest()[:16]}"


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_model_counts(model: Path, name: str):
    before = folder_digest(model)
    flip(model / name, len(FILES[name]) // 2)
    assert folder_digest(model) != before
    flip(model / name, len(FILES[name]) // 2)
    assert folder_digest(model) == before
    (model / name).unlink()
    assert folder_digest(model) != before


@pytest.mark.parametrize("place", [0, 1, 299, 300, 999, 1000, 1250, 1999, 2000, 2499])
def test_every_byte_of_the_weights_counts(model: Path, place: int):
    before = folder_digest(model)
    flip(model / "model.safetensors", place)
    assert folder_digest(model) != before


def test_files_that_describe_the_model_or_were_left_by_a_trainer_do_not_count(model: Path):
    assert model_files(model) == sorted(FILES)
    before = folder_digest(model)
    for name in OTHERS:
        flip(model / name, 0)
    assert folder_digest(model) == before


def test_a_known_file_is_not_read_again(model: Path, reads: list[str]):
    first = folder_digest(model)
    assert set(reads) == {Path(name).name for name in FILES}
    reads.clear()
    assert folder_digest(model) == first
    assert reads == []
    flip(model / "model.safetensors", 1250)
    assert folder_digest(model) != first
    assert reads == ["model.safetensors"] * 3


def _tear(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-20])


def _empty(cache: Path) -> None:
    cache.write_bytes(b"")


def _list(cache: Path) -> None:
    cache.write_text("[1, 2]")


def _entries(cache: Path) -> None:
    cache.write_text(json.dumps(dict.fromkeys(json.loads(cache.read_text()), 7)))


@pytest.mark.parametrize("damage", [_tear, _empty, _list, _entries])
def test_a_damaged_cache_is_computed_again(
    model: Path, reads: list[str], damage: Callable[[Path], None]
):
    first = folder_digest(model)
    damage(cache_file())
    reads.clear()
    assert folder_digest(model) == first
    assert set(reads) == {Path(name).name for name in FILES}
    reads.clear()
    assert folder_digest(model) == first
    assert reads == []


def test_a_cache_that_cannot_be_written_is_done_without(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = folder_digest(model)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert folder_digest(model) == first


def test_what_may_change_unnoticed_is_not_kept(
    model: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(digest, "SETTLED_SECONDS", 3600.0)
    first = folder_digest(model)
    assert not cache_file().exists()
    reads.clear()
    assert folder_digest(model) == first
    assert set(reads) == {Path(name).name for name in FILES}


def test_small_files_are_read_every_time(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digest, "MIN_CACHED", 1000)
    folder_digest(model)
    assert list(json.loads(cache_file().read_text())) == [str(model / "model.safetensors")]


def test_the_cache_forgets_what_it_learned_first(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digest, "MAX_ENTRIES", 4)
    folder_digest(model)
    assert [Path(name).name for name in json.loads(cache_file().read_text())] == [
        Path(name).name for name in sorted(FILES)[-4:]
    ]


def test_a_file_that_changes_while_it_is_read_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = digest._chunk_digest

    def replacing(chunk: tuple[Path, int]) -> bytes:
        if chunk[0].name == "config.json":
            chunk[0].write_text("{ }")
        return whole(chunk)

    monkeypatch.setattr(digest, "_chunk_digest", replacing)
    with pytest.raises(ModelError, match=r"config\.json changed while it was read"):
        folder_digest(model)


def test_a_file_that_cannot_be_read_is_named(model: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(chunk: tuple[Path, int]) -> bytes:
        raise PermissionError(13, "Permission denied", str(chunk[0]))

    monkeypatch.setattr(digest, "_chunk_digest", refuse)
    with pytest.raises(ModelError, match=r"cannot read the model's files: .* Permission denied"):
        folder_digest(model)
