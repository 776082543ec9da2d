"""Files on a local disk or in an object store behind one small interface.

A write is all or nothing: locally a temporary name, fsync, rename, fsync of the folder;
an object store publishes when the upload is closed.
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
from urllib.parse import urlsplit

import fsspec
import pyarrow as pa
from pyarrow import fs as pafs

from pipeline.store.failpoints import failpoint

TEMPORARY = ".tmp-"
CHECKSUM = 16
TRIES = 6
_UNKNOWN = "Unrecognized filesystem type"

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A file in a folder: its name there and its size in bytes."""

    name: str
    size: int


def locate(uri: str) -> tuple[Any, str]:
    """The pyarrow filesystem of a path or URI and the path in it.

    pyarrow's own filesystems where it has one, else fsspec's of that protocol. Raises
    OSError or ValueError where neither knows it.
    """
    scheme = urlsplit(uri).scheme
    if len(scheme) < 2:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    if scheme == "s3":
        # One request for a small object; without it Arrow makes a multipart upload of three.
        uri += ("&" if "?" in uri else "?") + "allow_delayed_open=true"
    try:
        return pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if isinstance(error, pa.ArrowInvalid) and _UNKNOWN not in str(error):
            raise  # a mistake in a URI whose protocol it knows
        # Listings must not be kept: other processes write into the same folder.
        found, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        return pafs.PyFileSystem(pafs.FSSpecHandler(found)), path


def below(uri: str, name: str) -> str:
    """The path or URI of a name below a folder's; a query stays behind it."""
    base, mark, query = uri.partition("?") if len(urlsplit(uri).scheme) > 1 else (uri, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def kind(uri: str) -> str:
    """A path or URI without its query: its end tells the kind of file."""
    return uri.partition("?")[0] if len(urlsplit(uri).scheme) > 1 else uri


def retrying(work: Callable[[], T]) -> T:
    """Repeat what the file system refused, after 0.1, 0.2, 0.4... seconds, six times in all."""
    for attempt in range(TRIES - 1):
        try:
            return work()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(0.1 * 2**attempt)
    return work()


class Checked(io.RawIOBase):
    """A sink that knows the `Folder.checksum` of what went through it."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._digest = blake2b(digest_size=CHECKSUM)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return self._sink.write(data)

    def checksum(self) -> str:
        """Of all that was written so far."""
        return self._digest.hexdigest()


class Folder:
    """A folder of a run. Names are relative and may hold slashes. Pickles as its
    URI, a local one as its absolute path: workers run elsewhere."""

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
        """Do some reading or writing; where a network is between, more than once."""
        return work() if self.local else retrying(work)

    def files(self, name: str) -> list[Found]:
        """The files directly in a sub-folder, sorted by name; none where it is missing."""
        return [f for f in self._all(name) if not f.name.rpartition("/")[2].startswith(TEMPORARY)]

    def unfinished(self, name: str) -> list[Found]:
        """What writers that died, or still write, have left in a sub-folder."""
        return [f for f in self._all(name) if f.name.rpartition("/")[2].startswith(TEMPORARY)]

    def _all(self, name: str) -> list[Found]:
        selector = pafs.FileSelector(self.path(name), allow_not_found=True)
        prefix = f"{name}/" if name else ""
        try:
            infos = self.retrying(lambda: self.fs.get_file_info(selector))
        except FileNotFoundError:
            return []
        found = (Found(prefix + info.base_name, info.size) for info in infos if info.is_file)
        return sorted(found, key=lambda f: f.name)

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
        """A sink that becomes the file when the block ends without an exception."""
        if not self.local:
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
        """Rename a file; an object store copies it, then deletes the old one."""
        if self.local:
            os.makedirs(os.path.dirname(self.path(new)), exist_ok=True)
        self.retrying(lambda: self.fs.move(self.path(old), self.path(new)))

    def delete(self, name: str) -> None:
        """Delete a file that may be gone already."""
        try:
            self.retrying(lambda: self.fs.delete_file(self.path(name)))
        except FileNotFoundError:
            return

    def clear(self, name: str) -> None:
        """Delete the files of a sub-folder; an object store takes a thousand a request."""
        if self.local:
            for found in self._all(name):
                self.delete(found.name)
        else:
            path = self.path(name)
            self.retrying(lambda: self.fs.delete_dir_contents(path, missing_dir_ok=True))

    def create(self, name: str, data: bytes) -> bool:
        """Create a local file that must not exist, atomically; False where it does."""
        path = self.path(name)
        parent, base = os.path.split(path)
        os.makedirs(parent, exist_ok=True)
        temporary = os.path.join(parent, f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{base}")
        with open(temporary, "wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        sync_folder(parent)
        return True


def sync_folder(path: str) -> None:
    """Make renames in a local folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
