"""A headless Chromium of the system, driven by the DevTools protocol; needs no further package.

python -m tests.pipeline.report.browser page.html#/traces out.png --width 400 --dark
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

AXE = Path(__file__).parents[3] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 60.0
_SETTLED = """
new Promise((done) => {
  let timer = 0;
  const watch = new MutationObserver(() => again());
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      // A page that still loads what it shows does not change meanwhile.
      const shown = document.body.dataset.shown;
      if (shown !== undefined && shown !== location.hash) again();
      else { watch.disconnect(); done(); }
    }, 200);
  };
  const all = { subtree: true, childList: true, characterData: true, attributes: true };
  watch.observe(document, all);
  again();
})"""


def skip_unless_asked() -> None:
    """Skips the tests of a module, saying so, where no one asked for a browser."""
    if os.environ.get("NABLA_BROWSER") != "1":
        pytest.skip("`make test-browser` runs these in a Chromium", allow_module_level=True)


def program() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Page:
    """A tab. `errors` are exceptions, console errors and refusals of the content-security policy
    since it was opened; `requests` the URLs that it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, loop: Any) -> None:
        self._socket, self._loop = socket, loop
        self._number = 0
        self.errors: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A method of the protocol; returns its result. Raises RuntimeError."""
        return self._loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json(
            {"id": self._number, "method": method, "params": dict(parameters)}
        )
        while True:
            answer = json.loads((await asyncio.wait_for(self._socket.receive(), SECONDS)).data)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event: Mapping[str, Any]) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = values["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", details["text"])
                self.errors.append(thrown)
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "assert", "warning"):
                self.errors.append(str([a.get("value") for a in values["args"]]))
            case "Log.entryAdded" if values["entry"]["level"] in ("error", "warning"):
                entry = values["entry"]
                self.errors.append(f"{entry['text']} {entry.get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])

    def run(self, script: str) -> Any:
        """The value of an expression, which may be a promise."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def open(self, url: str) -> None:
        """Load a page, and wait until it has drawn itself."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.wait("document.body && document.body.dataset.ready")

    def go(self, fragment: str) -> None:
        """Another fragment of the address of the page."""
        self.run(f"location.hash = {json.dumps(fragment)}")
        self.wait("document.body.dataset.shown === location.hash")
        self.settle()

    def wait(self, condition: str, seconds: float = SECONDS) -> None:
        """Until an expression is true. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition}; errors: {self.errors}; page: {self.text()[:500]}")
            time.sleep(0.02)

    def settle(self) -> None:
        """Until the page shows its address, and has not changed for a fifth of a second."""
        self.run(_SETTLED)

    def press(self, key: str) -> None:
        """A key, to the element that has the focus."""
        text = key if len(key) == 1 else ""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, text=text if kind == "keyDown" else ""
            )
        self.settle()

    def text(self, selector: str = "body") -> str:
        """The visible text of an element; "" where there is none."""
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def texts(self, selector: str) -> list[str]:
        """The visible text of each element."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return self.run(f"{found}.map(element => element.innerText)")

    def screen(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """The size of the window, and the colours that the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """A PNG of the window."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def chromium() -> Iterator[Page]:
    """A page in a new Chromium with a fresh profile."""
    path = program()
    assert path is not None, "no Chromium is installed"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                *(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-dev-shm-usage", "--remote-debugging-port=0", "--disable-extensions"),
                *(f"--user-data-dir={profile}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        loop = asyncio.new_event_loop()
        session: aiohttp.ClientSession | None = None
        try:
            port = _port(Path(profile, "DevToolsActivePort"))
            session, socket = loop.run_until_complete(_connect(port))
            page = Page(socket, loop)
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            page.screen(width=1200)
            yield page
        finally:
            if session is not None:
                loop.run_until_complete(session.close())
            process.terminate()
            process.wait()
            loop.close()


def _port(file: Path) -> int:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise TimeoutError("Chromium does not start")


async def _connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        tabs = await answer.json()
    url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    return session, await session.ws_connect(url, max_msg_size=0)


def count(page: Page) -> int:
    """How many rows the list has."""
    return int(page.text("#list .count").split(" of ")[0].replace(",", ""))


def listed(page: Page) -> list[str]:
    """The ids that the list shows."""
    return page.texts("#list th[scope=row] a")


def faults(page: Page) -> list[tuple[str, str, str]]:
    """What axe-core calls serious or critical, with the first element of each."""
    page.run(AXE.read_text() + "; 0")
    results = page.run("axe.run({resultTypes: ['violations'], preload: false})")
    return [
        (v["id"], v["nodes"][0]["html"], v["nodes"][0].get("failureSummary"))
        for v in results["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def main() -> None:
    """A screenshot of a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1400)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--script", help="runs before the picture is taken")
    options = parser.parse_args()
    with chromium() as page:
        page.screen(width=options.width, height=options.height, dark=options.dark)
        page.open(options.url)
        page.settle()
        if options.script:
            page.run(options.script)
            page.settle()
        page.picture(options.out)
        print("errors:", page.errors)


if __name__ == "__main__":
    main()
