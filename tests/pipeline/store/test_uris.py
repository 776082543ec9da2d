"""Paths and URIs: their file systems, and how they are joined."""

import pyarrow as pa
import pytest
from pyarrow import fs

from pipeline.errors import StoreError
from pipeline.store.run_folder import open_folder
from pipeline.store.uris import below, locate, without_query


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://bucket/runs?endpoint_overide=x", "Unexpected query parameter"),
        ("s3://bucket/my run", "Cannot parse URI"),
    ],
)
def test_a_mistake_in_a_uri_is_reported_as_one(uri, message):
    with pytest.raises(pa.ArrowInvalid, match=message):
        locate(uri)
    with pytest.raises(StoreError, match=f"cannot open run folder .*{message}"):
        open_folder(uri)


def test_a_local_path_is_absolute_and_a_uri_is_below_its_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    filesystem, path = locate("runs/ü")
    assert isinstance(filesystem, fs.LocalFileSystem)
    assert path == str(tmp_path / "runs" / "ü")
    assert locate("~/runs")[1] == str(tmp_path / "home" / "runs")
    assert locate("memory://bucket/runs")[1] == "/bucket/runs"


@pytest.mark.parametrize(
    ("folder", "joined", "bare"),
    [
        ("runs/a", "runs/a/x.jsonl", "runs/a/x.jsonl"),
        ("runs/what?/", "runs/what?/x.jsonl", "runs/what?/x.jsonl"),
        ("s3://b/a/?region=x", "s3://b/a/x.jsonl?region=x", "s3://b/a/x.jsonl"),
    ],
)
def test_a_query_stays_at_the_end_of_a_uri(folder, joined, bare):
    assert below(folder, "x.jsonl") == joined
    assert without_query(joined) == bare
