"""An S3 server, and a server with as much of the Hugging Face hub's interface as an upload uses."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.s3_server import s3_server


@contextmanager
def s3_bucket() -> Iterator[str]:
    """The query of URIs `s3://bucket/...` of an S3 server with that bucket."""
    with s3_server() as (host, port):
        yield f"scheme=http&endpoint_override={host}:{port}"


class Hub(ThreadingHTTPServer):
    """`repositories` maps names to files with their contents, `created` to what was asked of a new
    repository. Answers the first `refusals` uploads with 403."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.created: dict[str, dict[str, Any]] = {}
        self.refusals = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if "/preupload/" in path:
            # Everything in the commit itself, and nothing through large file storage.
            how = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            asked = json.loads(body)["files"]
            return self._answer({"files": [{"path": f["path"], **how} for f in asked]})
        return self._commit(path.removeprefix("/api/datasets/").partition("/commit/")[0], body)

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].removeprefix("/api/datasets/").partition("/revision")[0]
        if name in self.server.repositories:
            self._answer({"id": name, "sha": "0" * 40, "private": True, "siblings": []})
        else:
            self._answer({"error": "Repository not found"}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        organization = asked.get("organization")
        name = f"{organization}/{asked['name']}" if organization else asked["name"]
        if name in self.server.repositories:
            return self._answer({"error": "exists", "url": f"{self.server.url}/{name}"}, 409)
        self.server.repositories[name] = {}
        self.server.created[name] = asked
        return self._answer({"url": f"{self.server.url}/datasets/{name}"})

    def _commit(self, name: str, body: bytes) -> None:
        if self.server.refusals:
            self.server.refusals -= 1
            return self._answer({"error": "no write access"}, 403)
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                value = entry["value"]
                content = base64.b64decode(value["content"])
                self.server.repositories[name][value["path"]] = content
        url = f"{self.server.url}/datasets/{name}/commit/{'0' * 40}"
        return self._answer({"commitUrl": url, "commitOid": "0" * 40, "success": True})

    def _answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
