"""The tokenizer of the student: what its template must do, and whose token ids a run holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nabla_core.embedded.weights import folder as shipped
from pipeline.errors import InputError
from pipeline.export.config import Tokenizer
from tests.pipeline.export.runs import exported, trace, write_run

SIX = [trace(f"p{n}", question=f"{n}+2=", reward=float(n)) for n in range(6)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "first", SIX)


def model(path: Path, template: str | None) -> str:
    """The embedded LM with another chat template."""
    shutil.copytree(shipped("lm"), path)
    (path / "chat_template.jinja").unlink()
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    return str(path)


TURNS = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def test_a_template_that_would_not_teach_to_stop_is_refused_by_name(run, tmp_path):
    silent = Tokenizer(path=model(tmp_path / "silent", TURNS))
    with pytest.raises(InputError, match=r"silent: its chat template ends an answer with '', and "):
        exported(tmp_path / "out", run, tokenizer=silent)
    with pytest.raises(InputError, match="would not learn to stop"):
        exported(tmp_path / "out", run, tokenizer=silent, layout="messages")
    bare = Tokenizer(path=model(tmp_path / "bare", None))
    for settings in ({}, {"format": "preference"}, {"format": "kto"}):
        with pytest.raises(InputError, match="bare has no chat template"):
            exported(tmp_path / "out", run, tokenizer=bare, **settings)
    assert exported(tmp_path / "out", run, tokenizer=bare, layout="text").facts["kept"] == 6
    # A line break behind the stop token, as many templates have, does no harm.
    lines = TURNS.replace("{% endfor", "{{ eos_token + '\\n' }}{% endfor")
    exported(tmp_path / "lines", run, tokenizer=Tokenizer(path=model(tmp_path / "model", lines)))


def test_a_response_that_the_template_cannot_render_is_named(run, tmp_path):
    picky = TURNS.replace(
        "{% endfor",
        "{% if '5' in m['content'] %}{{ raise_exception('no fives') }}{% endif %}"
        "{{ eos_token }}{% endfor",
    )
    with pytest.raises(InputError, match=r"row 6 \(prompt p5\): the chat template of .*no fives"):
        exported(tmp_path / "out", run, tokenizer=Tokenizer(path=model(tmp_path / "model", picky)))
    assert not (tmp_path / "out").exists()
    hiding = "{% for m in messages %}{{ m['content'].split('3')[-1] }}{{ eos_token }}{% endfor %}"
    with pytest.raises(InputError, match=r"row 1 \(prompt p0\): .* as it is"):
        exported(tmp_path / "out", run, tokenizer=Tokenizer(path=model(tmp_path / "hide", hiding)))


def test_token_ids_of_another_tokenizer_are_refused(tmp_path):
    row = trace("a", tokenizer_fingerprint="sha256:other")
    run = write_run(tmp_path / "run", [row])
    with pytest.raises(InputError, match=r"made with tokenizer sha256:other, and embedded has "):
        exported(tmp_path / "out", run, format="tokens")
    assert exported(tmp_path / "out", run).facts["kept"] == 1


def test_a_run_without_a_tokenizer_needs_one(run, tmp_path):
    scripted = write_run(tmp_path / "run", SIX, config={"lm": {"path": "scripted?delay=0"}})
    with pytest.raises(InputError, match=r"\(scripted\?delay=0\): set tokenizer\.path"):
        exported(tmp_path / "out", scripted)
    assert exported(tmp_path / "rl", scripted, format="rl").facts["tokenizer"] is None
    exported(tmp_path / "out", scripted, tokenizer=Tokenizer(path="embedded"))
