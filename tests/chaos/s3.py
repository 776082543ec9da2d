"""A proxy before an S3 server. A share of the requests fails, as it does on real networks."""

import random
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUSY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""


class Unreliable(ThreadingHTTPServer):
    """Forwards requests to `upstream`. A random `share` of them fails: the answer is 503, or
    late, or the connection is cut before or after the request is forwarded.

    `outcomes` counts what was done with requests, `requests` the requests by method.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: tuple[str, int], share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.share = upstream, share
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()

    def fault(self) -> str:
        """What to do with the next request."""
        with self.lock:
            fails = self.random.random() < self.share
            kind = self.random.choice(("503", "cut", "cut after", "slow")) if fails else "pass"
            self.outcomes[kind] += 1
            return kind

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        self.outcomes["client gone"] += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Unreliable

    def log_message(self, *arguments: object) -> None:
        return

    def forward(self) -> None:
        with self.server.lock:
            self.server.requests["LIST" if "list-type=" in self.path else self.command] += 1
        kind = self.server.fault()
        body = self._body()
        if kind == "cut":
            self._cut()
        elif kind == "503":
            self._answer(503, [("Content-Type", "application/xml")], BUSY)
        else:
            if kind == "slow":
                time.sleep(0.3)
            status, headers, answer = self._upstream(body)
            if kind == "cut after":
                self._cut()
            else:
                self._answer(status, headers, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(*self.server.upstream)
        skipped = {"transfer-encoding", "content-length", "expect", "connection"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in skipped}
        headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def unreliable(upstream: tuple[str, int], share: float, seed: int):
    """Runs the proxy for the duration of the block."""
    server = Unreliable(upstream, share, seed)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
