"""Where paths and URIs lead."""

import fsspec
import pyarrow as pa
import pytest

from pipeline.errors import StoreError
from pipeline.store.files import Folder, locate
from pipeline.store.run_folder import open_folder


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://bucket/runs?endpoint_overide=x", "Unexpected query parameter"),
        ("s3://bucket/my run", "Cannot parse URI"),
    ],
)
def test_a_mistake_in_a_uri_is_told_as_one(uri, told):
    with pytest.raises(pa.ArrowInvalid, match=told):
        locate(uri)
    with pytest.raises(StoreError, match=f"cannot open run folder .*{told}"):
        open_folder(uri)


def test_listings_of_fsspec_are_never_remembered(tmp_path, monkeypatch):
    asked = []
    found = fsspec.core.url_to_fs
    monkeypatch.setattr(
        fsspec.core, "url_to_fs", lambda uri, **more: asked.append(more) or found(uri, **more)
    )
    folder = Folder(f"memory://{tmp_path.name}")
    assert folder.files("") == []
    assert asked == [{"use_listings_cache": False}]
    assert folder.fs.handler.fs.dircache.use_listings_cache is False


def test_the_checksum_is_of_the_bytes(tmp_path):
    for folder in (Folder(str(tmp_path)), Folder(f"memory://{tmp_path.name}")):
        folder.write("a", b"x" * (3 << 20))
        folder.write("b", b"x" * (3 << 20))
        folder.write("c", b"x" * (3 << 20) + b"y")
        assert folder.checksum("a") == folder.checksum("b") != folder.checksum("c")
