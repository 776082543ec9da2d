"""The server of pages: the same scripts, made on request; rows that are committed meanwhile."""

import asyncio
import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from jobs import report as command
from pipeline.errors import InputError
from pipeline.report import serve
from pipeline.report.committed import ChangedError
from pipeline.report.config import ReportConfig
from pipeline.store.files import Folder
from pipeline.store.parts import commit
from tests.pipeline.export.runs import SCHEMA, trace, write_run
from tests.pipeline.report.chunks import rows_in
from tests.pipeline.report.sites import made, ordinary, unpacked


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(serve, "FRESH_SECONDS", 0.0)


def asked(run, *questions, between=None):
    """The answers to paths, each with its status and body; `between` is called before the last."""

    async def ask():
        found = []
        server = TestServer(serve.application(ReportConfig(run_dir=(str(run),))))
        async with TestClient(server) as client:
            for number, (path, headers) in enumerate(questions):
                if between and number == len(questions) - 1:
                    await asyncio.to_thread(between)
                async with client.get(path, headers=headers) as answer:
                    found.append((answer.status, await answer.read()))
        return found

    return asyncio.run(ask())


def data_of(script):
    packed = re.fullmatch(rb'nabla\.load\("[\w/]+","([A-Za-z0-9+/=]*)"\);\n', script)[1]
    return gzip.decompress(base64.b64decode(packed))


def test_the_scripts_hold_what_those_of_the_static_pages_hold(tmp_path):
    run = write_run(tmp_path / "run", ordinary())
    site = made(tmp_path / "out", run).page.parent
    same = ("index/0", "words/0", "search/0", "search/0_0", "ids/0")
    names = (*same, "rows/0", "rows/1", "rows/2", "chunks", "run")
    answers = asked(run, *((f"/{name}.js?v=1", {}) for name in names), ("/", {}))
    assert [status for status, _ in answers] == [200] * 11
    served = dict(zip(names, (data_of(body) for _, body in answers[:-1]), strict=True))
    for name in same:
        assert served[name] == unpacked(site / f"{name}.js"), name
    mine = [row for n in range(3) for row in rows_in(served[f"rows/{n}"])]
    files = sorted((site / "rows").iterdir(), key=lambda f: int(f.stem))
    assert mine == [row for file in files for row in rows_in(unpacked(file))]
    assert np.frombuffer(served["chunks"], "<u4").tolist() == [0, 50, 100]
    assert json.loads(served["run"])["version"] == 1
    assert answers[-1][1] == (site / "index.html").read_bytes()


def test_rows_that_are_committed_meanwhile_are_shown(tmp_path):
    run = write_run(tmp_path / "run", [trace("a")], finished=False)
    version = ("/version.js", {})
    rows = ("/rows/0.js", {})
    answers = asked(
        run, version, version, rows, between=lambda: commit(Folder(run), SCHEMA, [trace("b")])
    )
    assert answers[0] == answers[1]
    assert [r["prompt_id"] for r in rows_in(data_of(answers[2][1]))] == ["a", "b"]


def test_a_run_that_is_compacted_meanwhile_is_read_again(tmp_path):
    run = write_run(tmp_path / "run", [trace("a"), trace("b")], finished=False)

    def replace():
        for file in Folder(run).files("parts"):
            Folder(run).delete(file.name)
        commit(Folder(run), SCHEMA, [trace("b"), trace("c")])

    answers = asked(run, ("/rows/0.js", {}), ("/rows/0.js", {}), between=replace)
    assert [r["prompt_id"] for r in rows_in(data_of(answers[1][1]))] == ["b", "c"]


def test_rows_that_are_damaged_meanwhile_are_an_answer_of_their_own(tmp_path):
    run = write_run(tmp_path / "run", [trace("a")])
    (file,) = Folder(run).files("data")

    def damage():
        data = Folder(run).read(file.name)
        Path(Folder(run).path(file.name)).write_bytes(data[:50] + b"x" * 50 + data[100:])

    answers = asked(run, ("/rows/0.js", {}), ("/rows/0.js", {}), between=damage)
    assert [status for status, _ in answers] == [200, 503]
    assert b"a resume makes its rows again" in answers[1][1]


def test_files_that_change_each_time_are_an_error_and_no_loop(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", [trace("a")])
    calls = []

    def changed(*_):
        calls.append(1)
        raise ChangedError("replaced")

    monkeypatch.setattr(serve.Source, "_view", changed)
    with pytest.raises(ChangedError):
        serve.application(ReportConfig(run_dir=(run,)))
    assert len(calls) == 3


@pytest.mark.parametrize(
    "path",
    [
        "/rows/1.js", "/rows/-1.js", "/rows/x.js", "/index/7.js", "/search/1.js", "/search/0_1.js",
        "/search/x.js", "/ids/1.js", "/nothing.js", "/rows/0",
        "/run/0/config.yaml", "/run/0/data/../config.yaml", "/run/1/data/x.parquet",
        "/run/0/data/nothing.parquet", "/%2e%2e/%2e%2e/etc/passwd", "/pairs.js",
    ],
)  # fmt: skip
def test_nothing_else_is_served(tmp_path, path):
    run = write_run(tmp_path / "run", [trace("a")])
    assert [status for status, _ in asked(run, (path, {}))] == [404]


def test_another_host_is_refused(tmp_path):
    run = write_run(tmp_path / "run", [trace("a")])
    other = {"Host": "evil.example:8764"}
    assert [status for status, _ in asked(run, ("/run.js", other), ("/run.js", {}))] == [403, 200]


def test_parquet_files_are_served_in_ranges(tmp_path):
    run = write_run(tmp_path / "run", [trace("a")])
    (file,) = Folder(run).files("data")
    path = f"/run/0/{file.name}"
    whole, part = asked(run, (path, {}), (path, {"Range": "bytes=0-3"}))
    assert whole == (200, Folder(run).read(file.name))
    assert part == (206, b"PAR1")


def test_what_cannot_be_served_is_an_error_before_anything_listens(tmp_path, capsys):
    with pytest.raises(InputError, match="is no run folder"):
        serve.application(ReportConfig(run_dir=(str(tmp_path),)))
    run = write_run(tmp_path / "run", [trace("a")])
    assert command.main([f"run_dir={run}", "out=x", "--serve"]) == 2
    assert "--serve writes nothing" in capsys.readouterr().err
