"""The scripted engines that other tests run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from nabla_core import NablaConfig, Prompt, Trace, drive, nabla
from nabla_core.engines.scripted import Script, from_path, scripted
from nabla_core.errors import ContextError, ModelError


def run(script: Script, text: str = "x") -> Trace:
    (trace,) = drive(
        [nabla(Prompt.of(text, id="p"), NablaConfig(max_rollouts=3))], scripted(script)
    )
    return trace


def test_the_search_climbs_the_scripts_reward(tmp_path: Path):
    script = Script(respond=lambda prompt, prefix, key: prefix + "1" * (8 - len(prefix)))
    trace = run(script)
    assert (trace.base_text, trace.text) == ("11111111", "99911111")
    assert [(r.position, r.to_text, r.accepted) for r in trace.revisions] == [
        (0, "9", True), (1, "9", True), (2, "9", True),
    ]  # fmt: skip


def test_rollouts_are_logged(tmp_path: Path):
    script = Script(log=str(tmp_path / "log"))
    assert script.lines() == 0
    run(script)
    assert script.lines() == 4


def test_words_in_a_prompt_misbehave():
    with pytest.raises(ValueError, match="the script raises"):
        run(Script(), "!raise")
    with pytest.raises(ContextError, match="does not fit"):
        run(Script(), "!long")


def test_options_of_the_path():
    with pytest.raises(ModelError, match="options are delay, flops, log, fail; not dely"):
        from_path("scripted?dely=1")
    with pytest.raises(ModelError, match="no weights"):
        from_path("scripted?fail=no weights")
