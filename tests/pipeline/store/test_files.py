"""Files of a folder, on a local disk and elsewhere."""

import pickle

import fsspec
import pytest

from pipeline.errors import StoreError
from pipeline.store.files import Folder
from pipeline.store.run_folder import open_folder


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


def test_a_home_and_a_relative_path_are_resolved_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for uri in ("~/runs dir ü/x", "runs dir ü/x", str(tmp_path / "runs dir ü" / "x")):
        folder = open_folder(uri)
        assert folder.uri == uri
        assert folder.root == str(tmp_path / "runs dir ü" / "x")
        monkeypatch.chdir("/")
        assert pickle.loads(pickle.dumps(folder)).root == folder.root
        monkeypatch.chdir(tmp_path)


def test_a_folder_in_rays_copy_of_the_working_dir_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(StoreError, match="run_dir runs/x lies in the copy of the working"):
        open_folder("runs/x")
    assert open_folder(str(tmp_path / "runs")).root == str(tmp_path / "runs")
