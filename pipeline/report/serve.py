"""The pages of runs from a server on 127.0.0.1, made on request of the runs' Parquet files.

Of a run that goes on they show the rows that are committed by then.

A browser may ask for any page of this machine. So requests that name another host are refused: a
page of another site could otherwise read the rows under a name of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from aiohttp import web

from pipeline.errors import RunError, StoreError
from pipeline.report import pages
from pipeline.report.arms import Arm, open_arms
from pipeline.report.committed import ChangedError, Group
from pipeline.report.comparisons import Runs, runs_of
from pipeline.report.config import ReportConfig
from pipeline.report.index import LIGHT, Methods, Part, index_part, joined
from pipeline.report.records import chunk_script
from pipeline.report.scripts import json_script
from pipeline.report.site import PAGE, page
from pipeline.store.files import Folder

HOST = "127.0.0.1"
# Rows of a chunk, and how old what a browser sees may be.
CHUNK_ROWS, FRESH_SECONDS = 50, 2.0
# A run that is being compacted replaces its files once.
_ATTEMPTS = 3
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


@dataclass
class View:
    """What the server shows at a time. `version` grows with each other view."""

    version: int
    arms: list[Arm]
    parts: list[Part]
    methods: Methods
    # The runs' row groups in order, and the first row of each.
    groups: list[tuple[Arm, Group]]
    starts: list[int]
    compared: dict[str, Any] | None = None
    scripts: dict[str, bytes] = field(default_factory=dict)

    @property
    def chunks(self) -> list[int]:
        """The first row of each chunk. None holds rows of two runs: their tokens may differ."""
        ends = list(accumulate(map(len, self.parts), initial=0))
        return [row for pair in pairwise(ends) for row in range(*pair, CHUNK_ROWS)]

    @property
    def rows(self) -> int:
        """Rows of all runs."""
        return sum(map(len, self.parts))

    @property
    def words(self) -> list[str]:
        """Words of all rows."""
        return [line for part in self.parts for line in part.words]


class NoScriptError(LookupError):
    """A browser asked for a script that the pages do not have."""


class Source:
    """The runs, read again where their files have changed. Parts of the index that were read
    before are kept: a committed file does not change."""

    def __init__(self, config: ReportConfig) -> None:
        self._config = config
        self.runs = runs_of(config.run_dir)
        self._parts: dict[tuple[int, str, int, int], Part] = {}
        self._methods = Methods()
        self._looked = 0.0
        self._seen: Any = None
        self.view = self._read(1)

    def current(self) -> View:
        """The view, not older than `FRESH_SECONDS`."""
        if time.monotonic() - self._looked > FRESH_SECONDS and self._seen != self._files():
            self.view = self._read(self.view.version + 1)
        return self.view

    def _files(self) -> Any:
        self._looked = time.monotonic()
        folders = [Folder(uri) for uri in self.runs.uris]
        names = ("parts", "data", "dead_letter")
        return [
            (folder.exists("_SUCCESS"), *(file.name for n in names for file in folder.files(n)))
            for folder in folders
        ]

    def _read(self, version: int) -> View:
        """The runs as they are. Raises ChangedError where files change each time."""
        for attempt in range(_ATTEMPTS):
            # Listed first: what changes while the rows are read is seen the next time.
            self._seen = self._files()
            try:
                return self._view(version)
            except ChangedError:
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def again(self) -> None:
        """Read the runs again, whatever was seen before."""
        self.view = self._read(self.view.version + 1)

    def _view(self, version: int) -> View:
        arms = open_arms(self.runs.uris, self._config.tokenizer, self.runs.names)
        known, self._parts = self._parts, {}
        parts, groups, starts, row = [], [], [], 0
        for number, arm in enumerate(arms):
            mine = []
            for group in arm.rows.groups:
                key = (number, group.file, group.number, len(group.rows))
                part = known.get(key)
                if part is None:
                    part = index_part(arm.rows.table(group, LIGHT), number, self._methods)
                self._parts[key] = part
                mine.append(part)
                groups.append((arm, group))
                starts.append(row)
                row += len(part)
            parts.append(joined(mine))
        return View(version, arms, parts, self._methods, groups, starts, self.runs.compared)


def script(view: View, name: str) -> bytes:
    """The script of a name, as a browser asks for it. Raises NoScriptError where there is none,
    and StoreError where the rows cannot be read."""
    if name == "version":
        return json_script("version", {"version": view.version})
    kind, _, number = name.partition("/")
    if kind == "rows" and number.isdigit():
        return _rows(view, int(number))
    if name not in view.scripts:
        _make(view, kind, number, name)
    if name not in view.scripts:
        raise NoScriptError(name)
    return view.scripts[name]


def _make(view: View, kind: str, number: str, name: str) -> None:
    """Make the scripts of a kind, or this one; a view does not change, so they are kept."""
    chunks = view.chunks
    if name == "run":
        facts = pages.overview(
            view.arms,
            view.parts,
            view.methods,
            chunks=len(chunks),
            version=view.version,
            compared=view.compared,
        )
        view.scripts["run"] = pages.run_script(facts)
    elif name == "chunks":
        view.scripts["chunks"] = pages.chunks_script(chunks)
    elif kind in ("index", "ids", "pairs"):
        view.scripts |= pages.index_scripts(joined(view.parts), view.parts)
    elif kind == "search":
        blocks = range(0, view.rows, pages.BLOCK)
        block = number.partition("_")[0]
        # One block at a time: it takes a second.
        if block.isdigit() and int(block) < len(blocks):
            lines = view.words[blocks[int(block)] :][: pages.BLOCK]
            view.scripts |= pages.search_scripts(int(block), lines)
    elif kind == "words":
        lines = view.words
        view.scripts |= {
            f"words/{n}": pages.words_script(n, lines[start : start + pages.WORDS])
            for n, start in enumerate(range(0, len(lines), pages.WORDS))
        }


def _rows(view: View, number: int) -> bytes:
    """A chunk of rows, wherever the row groups begin."""
    starts = [*view.chunks, view.rows]
    if number + 1 >= len(starts):
        raise NoScriptError(f"rows/{number}")
    first, last = starts[number], starts[number + 1]
    tables: list[pa.Table] = []
    tokens = None
    for (arm, group), start in zip(view.groups, view.starts, strict=True):
        low, high = max(first, start), min(last, start + len(group.rows))
        if low < high:
            tables.append(arm.rows.table(group).slice(low - start, high - low))
            tokens = arm.tokens
    return chunk_script(number, pa.concat_tables(tables), tokens)


def application(config: ReportConfig) -> web.Application:
    """The server's application. Raises as `open_arms` does where the runs cannot be read."""
    source = Source(config)
    static = page()
    lock = asyncio.Lock()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.host.partition(":")[0] not in (HOST, "localhost"):
            raise web.HTTPForbidden(text="this server answers on 127.0.0.1 alone\n")
        name = request.path.lstrip("/") or PAGE
        if name in static:
            return _response(name, static[name])
        if name.startswith("run/"):
            return _file(source.runs, name)
        # One at a time, beside the loop: a view is read once, however many scripts ask for it.
        async with lock:
            return await asyncio.to_thread(_answer, source, name)

    app = web.Application()
    app.router.add_get("/{name:.*}", answer)
    return app


def _answer(source: Source, name: str) -> web.Response:
    """What a browser asked for; 404 where there is none, 503 where the rows cannot be read."""
    try:
        if not name.endswith(".js"):
            raise NoScriptError(name)
        return _response(name, _script(source, name.removesuffix(".js")))
    except NoScriptError:
        raise web.HTTPNotFound(text="there is no such page\n") from None
    except StoreError as error:
        raise web.HTTPServiceUnavailable(text=f"{error}\n") from error


def _script(source: Source, name: str) -> bytes:
    try:
        return script(source.current(), name)
    except ChangedError:  # compacted since the view was made
        source.again()
        return script(source.view, name)


def _response(name: str, data: bytes) -> web.Response:
    kind = _TYPES[Path(name).suffix]
    return web.Response(body=data, content_type=kind, charset="utf-8", headers=_HEADERS)


def _file(runs: Runs, name: str) -> web.StreamResponse:
    """A committed Parquet file, `run/N/data/...`, with ranges: for programs that read it from
    here."""
    _, number, *parts = name.split("/")
    uri = dict(enumerate(runs.uris)).get(int(number)) if number.isdigit() else None
    folder = Folder(uri) if uri is not None else None
    inside = "/".join(parts)
    known = folder is not None and folder.local and parts[:1] in (["data"], ["parts"])
    listed = [file.name for file in folder.files(parts[0])] if folder and known else []
    if folder is None or inside not in listed:
        raise web.HTTPNotFound(text="there is no such file\n")
    return web.FileResponse(folder.path(inside), headers=_HEADERS)


def serve(config: ReportConfig, ready: Callable[[str], None]) -> None:
    """Serve until the process is interrupted. `ready` is called with the address. Raises RunError
    where the port is taken."""
    asyncio.run(_serve(config, ready))


async def _serve(config: ReportConfig, ready: Callable[[str], None]) -> None:
    runner = web.AppRunner(application(config), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, config.port)
        try:
            await site.start()
        except OSError as error:
            raise RunError(f"port={config.port}: {error.strerror}; give another port") from error
        port = runner.addresses[0][1]
        ready(f"http://{HOST}:{port}/")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
