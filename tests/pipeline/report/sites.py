"""Runs that the pages are made of in tests: ordinary rows, and texts that want to be more."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nabla_core.types import Cost
from pipeline.compare.config import Bootstrap
from pipeline.compare.results import read_results
from pipeline.compare.summary import summarise
from pipeline.report.config import ReportConfig
from pipeline.report.job import ReportOutcome, report
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from tests.pipeline.export.runs import revision, trace, write_run

FIRST, SECOND, THIRD = "1;2;3", "1;2;4", "5;2;4"
MEGABYTE = "0123456789abcdef " * 62_500
SCRIPT = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
ANSI, BIDI = "\x1b[31mred\x1b[0m", "abc\u202edcba\u202c\u2066x\u2069\u200b"
# Ids that addresses, file names, scripts or markup might take for something else.
IDS = (
    *("a/b#c?d=e&f%2Fg", "../../etc/passwd", SCRIPT, "'\"`;//", "tab\tline\nback\\t", "__proto__"),
    *("mathé/日本/🙂", ANSI + BIDI, "</script><!--"),
)


def ordinary(count: int = 120) -> list[dict[str, Any]]:
    """Rows of every kind that a filter tells apart, in turns of six."""
    rows = []
    for n in range(count):
        name = f"set/{n}"
        match n % 6:
            case 0:
                rows.append(trace(name, FIRST, question=f"1+{n % 10}=", reward=n / 10))
            case 1:
                one = revision(FIRST, SECOND, (0.5, 1.5))
                logp = [-0.01, -0.2, -1.0, None, -2.0, -6.0]
                rows.append(
                    trace(name, SECOND, FIRST, reward=1.5, base_reward=0.5, revisions=[one],
                          response_log_probabilities=logp)
                )  # fmt: skip
            case 2:
                one = revision(FIRST, SECOND, (0.5, 0.1))
                rows.append(
                    trace(name, FIRST, reward=0.5, base_reward=0.5, correct=False, revisions=[one])
                )
            case 3:
                one, two = revision(FIRST, SECOND, (0.5, 1.5)), revision(SECOND, THIRD, (1.5, 2.5))
                rejected = revision(THIRD, "5;2;9", (2.5, 0.2))
                rows.append(
                    trace(name, THIRD, FIRST, reward=2.5, base_reward=0.5,
                          correct=False, base_correct=True, revisions=[one, two, rejected])
                )  # fmt: skip
            case 4:
                rows.append(trace(name, error=f"ValueError: row {n}"))
            case 5:
                rows.append(
                    trace(name, "7", reward=None, correct=None, answer=None, finish="length",
                          method="greedy")
                )  # fmt: skip
    return rows


def hostile() -> list[dict[str, Any]]:
    """Rows whose texts and ids are markup, control characters, or very long."""
    other = {"tokenizer_fingerprint": "sha256:other"}
    texts = {"script": SCRIPT, "close": "</script>" + SCRIPT, "ansi": ANSI, "bidi": BIDI}
    texts |= {"megabyte": MEGABYTE, "proto": '{"__proto__": 1}', "lines": "a\u2028b\u2029c\r\nd"}
    rows = []
    for name, text in texts.items():
        answer = {"response": text, "base_response": text, "predicted_answer": text}
        rows.append({**trace(name, question=text), **answer, **other})
    rows.append(trace("tools", FIRST, **with_tools(SCRIPT)))
    rows.append(trace("dead", error=f"ValueError: {SCRIPT}{ANSI}"))
    rows += [trace(name, FIRST, question=f"question-{n}") for n, name in enumerate(IDS)]
    return rows


def with_tools(text: str) -> dict[str, Any]:
    """The columns of a prompt with two tools, one called `text`, which an earlier turn calls."""
    call = {"function": {"name": text, "arguments": {text: 1}}}
    turns = [
        {"role": "user", "content": "how many?"},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([call])},
        {"role": "tool", "content": "three", "name": text},
    ]
    return {"tools": json.dumps([{"name": text}, {"name": "now", "a": text}]), "prompt": turns}


def made(out: Path, *runs: str, **settings: Any) -> ReportOutcome:
    """The pages of runs."""
    config = ReportConfig(run_dir=runs, out=str(out), **settings)
    return report(config, lambda done, total: None)


def unpacked(file: Path) -> bytes:
    """The data of a script."""
    found = re.fullmatch(r'nabla\.load\("[\w/]+","([A-Za-z0-9+/=]*)"\);\n', file.read_text())
    assert found is not None, f"{file} holds more than data"
    return gzip.decompress(base64.b64decode(found[1]))


def values(file: Path) -> Any:
    """The value of a script of JSON."""
    return json.loads(unpacked(file))


def comparison(path: Path, missing: str | None = None, more: int = 0) -> str:
    """A folder of `nabla compare` with three arms on three prompts; `search` is right twice, and
    `both` answers each prompt twice. `missing`: an arm whose run folder was deleted since. `more`:
    arms that answer as `search` does."""
    answers = {
        "plain": [("a", "1;2", False), ("b", "3;4", False), ("c", "5;6", True)],
        "search": [("a", "1;7", True), ("b", "3;4", False), ("c", "5;6", True)],
        "both": [("a", "1;8", True), ("b", "3;9", True), ("c", "5;6", False)],
    }
    answers |= {f"more {n}": answers["search"] for n in range(more)}
    results = []
    for number, (name, rows) in enumerate(answers.items()):
        cost = asdict(
            Cost(rollouts=1, generated_tokens=9, flops=10.0 ** (6 + number), paper_calls=5)
        )
        run = write_run(
            path / "arms" / name.replace(" ", "-"),
            [
                trace(prompt, text, correct=right, sample=sample, reward=number + right, cost=cost)
                for prompt, text, right in rows
                for sample in range(2 if name == "both" else 1)
            ],
        )
        results.append(read_results(name, run))
    found = summarise(results, "plain", Bootstrap(resamples=100))
    folder = Folder(str(path))
    claim_owner(folder, Owner("compare"))
    folder.write("summary.json", json.dumps(found.as_dict()).encode())
    if missing is not None:
        shutil.rmtree(path / "arms" / missing)
    return str(path)
