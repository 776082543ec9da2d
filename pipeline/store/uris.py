"""Local paths and URIs of object stores: which file system they name, and how they are joined."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pyarrow as pa
from pyarrow import fs as pafs

# The error of pyarrow for a URI whose protocol it does not know.
_UNKNOWN_PROTOCOL = "Unrecognized filesystem type"
GCS_SECONDS = 60


def locate(uri: str) -> tuple[Any, str]:
    """The pyarrow filesystem of a path or URI, and the path in that filesystem.

    In a local path `~` is expanded, and a relative path starts at the working directory. For a
    protocol that pyarrow does not know, fsspec's filesystem is used. Raises OSError or ValueError
    if neither knows it.
    """
    scheme = urlsplit(uri).scheme
    if len(scheme) < 2:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    if scheme == "s3":
        # With this option Arrow writes a small object with one request, and not with the three of a
        # multipart upload.
        uri += ("&" if "?" in uri else "?") + "allow_delayed_open=true"
    if scheme in ("gs", "gcs") and "retry_limit_seconds=" not in uri:
        # Arrow asks for 15 minutes where nothing answers.
        uri += ("&" if "?" in uri else "?") + f"retry_limit_seconds={GCS_SECONDS}"
    try:
        return pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if isinstance(error, pa.ArrowInvalid) and _UNKNOWN_PROTOCOL not in str(error):
            raise  # pyarrow knows the protocol, and the URI is wrong
        # No cache of listings: other processes write into the same folder.
        filesystem, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


def below(uri: str, name: str) -> str:
    """The path or URI of a file in a folder. A query (`s3://...?region=...`) stays at the end."""
    base, mark, query = uri.partition("?") if len(urlsplit(uri).scheme) > 1 else (uri, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def without_query(uri: str) -> str:
    """A path or URI without its query, so that it ends in the suffix of the file's name."""
    return uri.partition("?")[0] if len(urlsplit(uri).scheme) > 1 else uri
