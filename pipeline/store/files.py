"""Files on a local disk or in an object store, behind one small interface.

A file is written as a whole or not at all. On a local disk: write a temporary file, fsync it,
rename it, fsync the folder. In an object store: the object appears when its upload is closed.
"""

from __future__ import annotations

import io
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, BinaryIO, TypeVar

from pyarrow import fs as pafs

from pipeline.store.failpoints import failpoint
from pipeline.store.uris import locate

TEMPORARY = ".tmp-"
CHECKSUM = 16
TRIES = 6

T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """A file in a folder: its name, relative to the folder, and its size in bytes."""

    name: str
    size: int


def retrying(work: Callable[[], T]) -> T:
    """Call `work`, and again after an OSError: six calls in all, with waits of 0.1, 0.2, 0.4, 0.8
    and 1.6 seconds between them. A missing file is not retried.
    """
    for attempt in range(TRIES - 1):
        try:
            return work()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(0.1 * 2**attempt)
    return work()


class ChecksumWriter(io.RawIOBase):
    """Passes bytes on to a sink and computes their checksum, which is that of `Folder.checksum`."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._digest = blake2b(digest_size=CHECKSUM)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return self._sink.write(data)

    def checksum(self) -> str:
        """The checksum of all bytes written so far."""
        return self._digest.hexdigest()


class Folder:
    """A run folder. Names of files are relative to it and may contain slashes.

    Pickles as its URI, a local folder as its absolute path: a worker may have another working
    directory.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.fs, self.root = locate(uri)
        self.local = isinstance(self.fs, pafs.LocalFileSystem)

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.root if self.local else self.uri,)

    def path(self, name: str) -> str:
        """The path of a name in the filesystem `fs`."""
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    def retrying(self, work: Callable[[], T]) -> T:
        """Call `work`, and again after an OSError if the folder is in an object store. A local disk
        refuses for a reason that stays."""
        return work() if self.local else retrying(work)

    def files(self, name: str) -> list[File]:
        """The files directly in a sub-folder, sorted by name. A missing sub-folder has none."""
        return [f for f in self._all(name) if not f.name.rpartition("/")[2].startswith(TEMPORARY)]

    def unfinished(self, name: str) -> list[File]:
        """Temporary files in a sub-folder, of writers that crashed or that still write."""
        return [f for f in self._all(name) if f.name.rpartition("/")[2].startswith(TEMPORARY)]

    def _all(self, name: str) -> list[File]:
        selector = pafs.FileSelector(self.path(name), allow_not_found=True)
        prefix = f"{name}/" if name else ""
        try:
            infos = self.retrying(lambda: self.fs.get_file_info(selector))
        except FileNotFoundError:
            return []
        files = (File(prefix + info.base_name, info.size) for info in infos if info.is_file)
        return sorted(files, key=lambda f: f.name)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self.retrying(lambda: self.fs.get_file_info(self.path(name))).is_file)

    def read(self, name: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""
        return self.retrying(lambda: self._read(name))

    def _read(self, name: str) -> bytes:
        with self.fs.open_input_stream(self.path(name), compression=None) as stream:
            data: bytes = stream.read()
        return data

    def checksum(self, name: str) -> str:
        """32 hex digits of the file's bytes. Raises FileNotFoundError."""
        return self.retrying(lambda: self._checksum(name))

    def _checksum(self, name: str) -> str:
        digest = blake2b(digest_size=CHECKSUM)
        with self.fs.open_input_stream(self.path(name), compression=None) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def write(self, name: str, data: bytes) -> None:
        """Write the whole file durably, replacing what was there."""
        self.retrying(lambda: self._write(name, data))

    def _write(self, name: str, data: bytes) -> None:
        with self.writing(name) as sink:
            sink.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A sink whose bytes become the file when the block ends without an exception."""
        if not self.local:
            # The object appears when the stream is closed, and its upload is aborted otherwise.
            with self.fs.open_output_stream(self.path(name), compression=None) as stream:
                yield stream
            return
        failpoint(f"before-write {name}")
        target = self.path(name)
        parent, base = os.path.split(target)
        os.makedirs(parent, exist_ok=True)
        temporary = os.path.join(parent, f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{base}")
        try:
            with open(temporary, "wb") as sink:
                yield sink
                sink.flush()
                failpoint(f"after-write {name}")
                # Before the rename: a file system may write the name first, and after a power cut
                # an empty file would have the final name.
                os.fsync(sink.fileno())
            failpoint(f"before-rename {name}")
            os.replace(temporary, target)
            failpoint(f"after-rename {name}")
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
        sync_folder(parent)

    def move(self, old: str, new: str) -> None:
        """Rename a file. An object store copies it and then deletes the old one: after a crash
        between the two there are both.
        """
        if self.local:
            os.makedirs(os.path.dirname(self.path(new)), exist_ok=True)
        self.retrying(lambda: self.fs.move(self.path(old), self.path(new)))

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        try:
            self.retrying(lambda: self.fs.delete_file(self.path(name)))
        except FileNotFoundError:
            return

    def clear(self, name: str) -> None:
        """Delete all files of a sub-folder; in an object store a thousand with one request."""
        if self.local:
            for file in self._all(name):
                self.delete(file.name)
        else:
            path = self.path(name)
            self.retrying(lambda: self.fs.delete_dir_contents(path, missing_dir_ok=True))

    def create(self, name: str, data: bytes) -> bool:
        """Create a local file with its content, atomically; False if the name exists already."""
        path = self.path(name)
        parent, base = os.path.split(path)
        os.makedirs(parent, exist_ok=True)
        temporary = os.path.join(parent, f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{base}")
        with open(temporary, "wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        # link() fails if the target exists, where rename() would replace it; and unlike open()
        # with O_EXCL it makes the name appear together with the content.
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        sync_folder(parent)
        return True


def sync_folder(path: str) -> None:
    """Write the entries of a local folder to disk, so that renames in it survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
