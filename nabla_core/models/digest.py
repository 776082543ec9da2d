"""The digest of a model folder: it covers every byte of every file that makes the model.

    chunk   SHA-256 of 16 MiB of a file; several threads hash chunks of all files
    file    SHA-256 of the digests of its chunks, in their order
    folder  SHA-256 of the names, sizes and digests of its files, sorted by name

Digests of large files are kept in a cache of the user, beside what `os.stat` tells of the file,
so that a folder of 15 GB is read once and not at every start.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from nabla_core.errors import ModelError

CHUNK = 16 << 20
BLOCK = 1 << 20
MAX_THREADS = 8
# Smaller files are hashed every time: that takes no longer than to look them up.
MIN_CACHED = CHUNK
# A file system may note times in steps of two seconds. A file that was changed later than so many
# seconds ago may change again and keep its times, so its digest is not kept.
SETTLED_SECONDS = 2.0
# The cache forgets the files that it learned first beyond so many.
MAX_ENTRIES = 10_000

# Weights, config, tokenizer, chat template, generation config and custom code.
_SUFFIXES = frozenset(
    (
        *(".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".jinja", ".py", ".txt"),
        *(".model", ".spm", ".bpe", ".codes", ".vocab", ".tiktoken"),
    )
)
# Files that describe a model, and what a trainer leaves beside it.
_NO_PART = (
    *("card.json", "README*", "LICENSE*", "NOTICE*", "requirements*.txt", ".*"),
    *("trainer_state.json", "training_args.bin", "optimizer.*", "scheduler.pt", "rng_state*.pth"),
    *("all_results.json", "train_results.json", "eval_results.json"),
)


def folder_digest(folder: Path, *, threads: int | None = None) -> str:
    """`sha256:` and 16 hex digits: the digest of a model folder.

    `threads` hash at a time; None is one for each CPU, eight at most. Raises ModelError where a
    file cannot be read or changes meanwhile.
    """
    names = model_files(folder)
    digest = hashlib.sha256()
    try:
        files = _file_digests([folder / name for name in names], threads or default_threads())
    except OSError as error:
        raise ModelError(f"{folder}: cannot read the model's files: {error}") from error
    for name, (size, found) in zip(names, files, strict=True):
        digest.update(f"{name}\0{size}\0{found}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def model_files(folder: Path) -> list[str]:
    """The files that make the model, relative to its folder and sorted; not its card or README."""
    found = {
        file.name
        for file in folder.iterdir()
        if file.suffix in _SUFFIXES and file.is_file() and not any(map(file.match, _NO_PART))
    }
    found |= {
        file.relative_to(folder).as_posix()
        for file in folder.glob("additional_chat_templates/*.jinja")
    }
    for index in folder.glob("*.index.json"):
        found |= {name for name in _shards(index) if (folder / name).is_file()}
    return sorted(found)


def default_threads() -> int:
    """One thread for each CPU that this process may use, eight at most."""
    return min(MAX_THREADS, len(os.sched_getaffinity(0)))


def cache_file() -> Path | None:
    """Where digests are kept: `$XDG_CACHE_HOME` or `~/.cache`; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return cache / "nabla-pipeline" / "digests.json"


def _shards(index: Path) -> set[str]:
    """The files of weights that an index names; they may lie in a folder below."""
    try:
        names = json.loads(index.read_bytes())["weight_map"].values()
        return {os.path.normpath(name) for name in names}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()  # transformers will say what is wrong with it


@dataclass(frozen=True)
class _Stamp:
    """What tells that a file is still the same without reading it."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> _Stamp:
        found = file.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    @property
    def settled(self) -> bool:
        return time.time() - max(self.modified, self.changed) / 1e9 > SETTLED_SECONDS


def _file_digests(files: Sequence[Path], threads: int) -> list[tuple[int, str]]:
    """Size and digest of each file. Raises OSError, ModelError."""
    stamps = {file: _Stamp.of(file) for file in files}
    large = any(stamp.size >= MIN_CACHED for stamp in stamps.values())
    kept = _read_cache() if large else {}
    known = {file: kept.get(str(file.resolve()), [None]) for file in files}
    digests = {
        file: str(entry[-1])
        for file, entry in known.items()
        if tuple(entry[:-1]) == astuple(stamps[file])
    }
    missing = [file for file in files if file not in digests]
    chunks = [
        (file, start) for file in missing for start in range(0, stamps[file].size or 1, CHUNK)
    ]
    whole = {file: hashlib.sha256() for file in missing}
    pool = ThreadPoolExecutor(threads)
    try:
        # `map` keeps the order: the digests of a file's chunks arrive in theirs.
        for (file, _), found in zip(chunks, pool.map(_chunk_digest, chunks), strict=True):
            whole[file].update(found)
    finally:
        # After Ctrl-C or an error the chunks that wait are not read any more.
        pool.shutdown(cancel_futures=True)
    settled = {}
    for file in missing:
        if _Stamp.of(file) != stamps[file]:
            raise ModelError(f"{file} changed while it was read")
        digests[file] = whole[file].hexdigest()
        if stamps[file].size >= MIN_CACHED and stamps[file].settled:
            settled[str(file.resolve())] = [*astuple(stamps[file]), digests[file]]
    if settled:
        _add_to_cache(settled)
    return [(stamps[file].size, digests[file]) for file in files]


def _chunk_digest(chunk: tuple[Path, int]) -> bytes:
    file, start = chunk
    digest = hashlib.sha256()
    # Blocks that fit the processor's cache; hashlib releases the GIL for each of them.
    block = memoryview(bytearray(BLOCK))
    with file.open("rb", buffering=0) as stream:
        stream.seek(start)
        left = CHUNK
        # A read may give fewer bytes than asked for; at the end of the file it gives none.
        while left and (size := stream.readinto(block[: min(left, BLOCK)]) or 0):
            digest.update(block[:size])
            left -= size
    return digest.digest()


def _read_cache() -> dict[str, list[Any]]:
    """The entries of the cache; none where it is missing, damaged or cannot be read."""
    path = cache_file()
    try:
        entries = json.loads(path.read_bytes()) if path else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {k: v for k, v in entries.items() if isinstance(v, list) and len(v) == 5}


def _add_to_cache(entries: dict[str, list[Any]]) -> None:
    """Write more entries. Two processes that write at once may lose an entry, which is computed
    again, and tear no file. A cache that cannot be written is done without."""
    path = cache_file()
    if path is None:
        return
    merged = [*_read_cache().items(), *entries.items()][-MAX_ENTRIES:]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".digests-")
        try:
            with os.fdopen(handle, "w") as stream:
                json.dump(dict(merged), stream)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        return
