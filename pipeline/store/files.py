"""Files on a local disk or in an object store, behind one small interface.

A file is written as a whole or not at all. On a local disk: write a temporary file, fsync it,
rename it, fsync the folder. In an object store: the object appears when its upload is closed.

A driver changes its run folder through a *stage*, a sub-folder of its own (`Folder.through`). Every
change is then one rename out of the stage or into it. A later driver takes the stage away before it
does anything else. So a change that a suspended driver had begun fails when that driver goes on.
"""

from __future__ import annotations

import io
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, BinaryIO, TypeVar

from pyarrow import fs as pafs

from pipeline.errors import LeaseError, StoreError
from pipeline.store.failpoints import failpoint
from pipeline.store.uris import locate

TEMPORARY = ".tmp-"
# The sub-folder of claims; see `store.lease`.
LEASE = "lease"
CHECKSUM = 16
TRIES = 6

# What reading a damaged JSON file raises: it is no JSON, too deep, or holds other values.
MALFORMED = (ValueError, RecursionError, KeyError, TypeError, AttributeError, IndexError)

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


def checksum_of(data: bytes) -> str:
    """32 hex digits, which are those of `Folder.checksum` for a file with these bytes."""
    return blake2b(data, digest_size=CHECKSUM).hexdigest()


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

    def __init__(self, uri: str, stage: str = "") -> None:
        self.uri = uri
        self.fs, self.root = locate(uri)
        self.local = isinstance(self.fs, pafs.LocalFileSystem)
        self.stage = stage if self.local else ""

    def __reduce__(self) -> tuple[type[Folder], tuple[str, str]]:
        return Folder, (self.root if self.local else self.uri, self.stage)

    def through(self, stage: str) -> Folder:
        """The same folder, changed through a stage: a sub-folder that exists. Once it is gone,
        every change raises LeaseError. An object store has no renames and ignores the stage."""
        staged = copy(self)
        staged.stage = stage if self.local else ""
        return staged

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
        temporary = self._temporary(parent, base)
        try:
            with self._through_stage(), open(temporary, "wb") as sink:
                yield sink
                sink.flush()
                failpoint(f"after-write {name}")
                # Before the rename: a file system may write the name first, and after a power cut
                # an empty file would have the final name.
                os.fsync(sink.fileno())
            failpoint(f"before-rename {name}")
            with self._through_stage():
                os.replace(temporary, target)
            failpoint(f"after-rename {name}")
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync_folder(parent)

    def move(self, old: str, new: str) -> None:
        """Rename a file. After a crash there may be both names, but never neither."""
        source, target = self.path(old), self.path(new)
        if self.local:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        if not self.stage:
            self.retrying(lambda: self.fs.move(source, target))
            return
        # A link in the stage, published by a rename: a rename from `source` would succeed after
        # the stage is gone, and take a file of the later driver.
        link = self._temporary("", os.path.basename(old))
        with self._through_stage():
            os.link(source, link)
            failpoint(f"before-move {old}")
            os.replace(link, target)
        sync_folder(os.path.dirname(target))
        failpoint(f"after-move {old}")
        self.delete(old)

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        with suppress(FileNotFoundError):
            if self.stage:
                failpoint(f"before-delete {name}")
                self._into_stage(name, os.unlink)
            else:
                self.retrying(lambda: self.fs.delete_file(self.path(name)))

    def clear(self, name: str) -> None:
        """Delete all files of a sub-folder: a staged local one with one rename, and in an object
        store a thousand with one request."""
        if self.stage:
            failpoint(f"before-delete {name}")
            with suppress(FileNotFoundError):
                self._into_stage(name, shutil.rmtree)
                os.makedirs(self.path(name), exist_ok=True)
        elif self.local:
            for file in self._all(name):
                self.delete(file.name)
        else:
            path = self.path(name)
            self.retrying(lambda: self.fs.delete_dir_contents(path, missing_dir_ok=True))

    def _into_stage(self, name: str, remove: Callable[[str], None]) -> None:
        taken = self._temporary("", os.path.basename(name))
        with self._through_stage():
            os.replace(self.path(name), taken)
        with suppress(FileNotFoundError):
            remove(taken)

    def _temporary(self, parent: str, base: str) -> str:
        """A path for a temporary file: in the stage, or without one in `parent`."""
        parent = self.path(self.stage) if self.stage else parent
        return os.path.join(parent, f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{base}")

    @contextmanager
    def _through_stage(self) -> Iterator[None]:
        """Raises LeaseError where the block fails because the stage is gone, and StoreError where
        this machine does not see the driver's files."""
        try:
            yield
        except FileNotFoundError as error:
            if not self.stage or os.path.isdir(self.path(self.stage)):
                raise
            if not os.path.isdir(self.path(LEASE)):
                raise StoreError(
                    f"{self.uri} holds no lease here: does every node see the driver's files?"
                ) from error
            raise LeaseError(f"{self.uri} was taken over by another driver") from error

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
