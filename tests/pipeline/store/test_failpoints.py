"""A process dies at the failpoint that a test names, once."""

import signal
import subprocess
import sys

import pytest

from pipeline.store.failpoints import VARIABLE, failpoint, failpoint_environment

SCRIPT = "from pipeline.store.failpoints import failpoint; failpoint('after-write parts/x')"


@pytest.mark.parametrize("name", ["after-write parts", "never|/no/token;after-write"])
def test_the_first_process_that_passes_is_killed(tmp_path, monkeypatch, name):
    token = tmp_path / "token"
    token.touch()
    monkeypatch.setenv(VARIABLE, f"{name}|{token}")
    assert failpoint_environment() == {VARIABLE: f"{name}|{token}"}
    codes = [subprocess.run([sys.executable, "-c", SCRIPT], check=False).returncode for _ in "ab"]
    assert codes == [-signal.SIGKILL, 0]
    assert not token.exists()


def test_other_failpoints_and_an_unset_variable_do_nothing(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.touch()
    monkeypatch.setenv(VARIABLE, f"before-write|{token}")
    failpoint("after-write parts/x")
    assert token.exists()
    monkeypatch.delenv(VARIABLE)
    failpoint("before-write parts/x")
    assert failpoint_environment() == {}


def test_a_process_gets_the_signal_that_is_named(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.touch()
    monkeypatch.setenv(VARIABLE, f"after-write|{token}|SIGTERM")
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=False)
    assert done.returncode == -signal.SIGTERM
