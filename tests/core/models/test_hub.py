"""Models by hub id, where the hub cannot be reached, answers, or is not asked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nabla_core.errors import ModelError
from nabla_core.models.hub import hub_answers, why_not_on_hub
from nabla_core.models.identity import identify_unloaded
from nabla_core.models.location import check_locations
from tests.core.tiny import Family

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import sys
import torch
from nabla_core.models.loading import load_language_model
lm = load_language_model(sys.argv[1], revision=None, device=torch.device("cpu"),
                         dtype=torch.float32)
print(lm.identity.revision)
"""
CHECK = """
import sys
from nabla_core.models.location import check_locations
check_locations({"lm.path": sys.argv[1], "reward.judge": "gpt3"})
"""


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def without_network(
    code: str, path: str, folder: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {key: text for key, text in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}",
        "HF_HUB_CACHE": str(folder),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    # Retries would take longer than a minute.
    return subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=folder,
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_a_mistyped_folder_is_told_without_retries(tmp_path: Path):
    done = without_network(CHECK, "models/lm", tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "lm.path: models/lm: no such folder here, and no model of this id on the hub (not "
        "reachable)\nreward.judge: gpt3: no such folder here, and no model of this id on the hub "
        "(not reachable)\n"
    )
    assert "etrying" not in done.stderr


def test_a_model_in_the_cache_loads_without_the_hub_and_without_retries(
    plain: Family, tmp_path: Path
):
    cache = tmp_path / "models--somebody--some-model"
    shutil.copytree(plain.lm, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    done = without_network(LOAD, "somebody/some-model", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{COMMIT}\n"), done.stderr
    assert "etrying" not in done.stderr


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that has owner/there, and owner/gated for members alone."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            gated = "owner/gated" in self.path
            found = self.path == "/" or "owner/there" in self.path
            body = b'{"id": "owner/there", "sha": "%s"}' % COMMIT.encode()
            self.send_response(200 if found else 403 if gated else 404)
            if not found:
                self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield
        server.shutdown()


@pytest.mark.usefixtures("hub")
def test_a_hub_that_answers_is_believed():
    assert hub_answers()
    check_locations({"lm.path": "owner/there", "reward.judge": "owner/gated"})
    with pytest.raises(ModelError, match=r"^lm\.path: owner/gone: no such folder.*not found"):
        check_locations({"lm.path": "owner/gone", "reward.judge": "owner/there"})
    found = identify_unloaded("owner/there", None)
    assert found is not None
    assert found.revision == COMMIT


def test_a_hub_that_may_not_be_asked_is_not():
    assert not hub_answers()
    assert why_not_on_hub("owner/there") == "not asked: HF_HUB_OFFLINE is set"
