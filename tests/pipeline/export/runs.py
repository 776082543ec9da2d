"""Run folders of traces of the embedded LM, made without Ray."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from nabla_core.embedded.tokenizer import STOP_ID, build, decode, encode
from nabla_core.text.fingerprint import fingerprint as tokenizer_fingerprint
from nabla_core.types import FinishReason, Prompt, Revision, Trace
from pipeline.export.config import ExportConfig
from pipeline.export.job import ExportOutcome, export
from pipeline.inputs.prompts import Item, fingerprint
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from pipeline.store.input_index import InputIndex
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import Slots
from pipeline.tables.traces import TRACES, key_columns, prompt_columns, trace_columns

SCHEMA = with_config(TRACES, "c0ffee")
FINGERPRINT = tokenizer_fingerprint(build())
MODELS = {
    role: {"name": f"embedded:{role}", "revision": f"sha256:{role}"} for role in ("judge", "lm")
}


def trace(
    name: str,
    response: str = "3.",
    base: str | None = None,
    *,
    sample: int = 0,
    question: str = "1+2=",
    answer: str | None = "3",
    system: str | None = None,
    reward: float | None = 1.0,
    base_reward: float | None = None,
    correct: bool | None = True,
    finish: FinishReason = "stop",
    revisions: Sequence[Revision] = (),
    earlier: Sequence[dict[str, Any]] = (),
    error: str | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """A row; texts are of the embedded task, `base` is the first response, equal if not given."""
    messages = (*earlier, {"role": "user", "content": question})
    prompt = Prompt(name, messages, system=system, answer=answer, sample=sample)  # type: ignore[arg-type]
    item = Item(prompt, fingerprint(prompt))
    keys = key_columns(item, "worker", 1, error)
    if error is not None:
        return {**prompt_columns(prompt), **keys}
    first = response if base is None else base
    made = Trace(
        prompt_id=name, sample=sample, prompt_text=question, text=response,
        tokens=tokens(response, finish), finish_reason=finish, base_text=first,
        base_tokens=tokens(first), reward=reward,
        base_reward=reward if base_reward is None else base_reward,
        revisions=tuple(revisions), seed=0,
    )  # fmt: skip
    row = {
        **prompt_columns(prompt), **trace_columns(prompt, made), "correct": correct,
        "base_correct": correct if base is None else False,
        "judge_model": "embedded:judge", "judge_revision": "sha256:judge",
        "generation_model": "embedded:lm", "generation_revision": "sha256:lm",
        "tokenizer_fingerprint": FINGERPRINT, "method": "nabla", "seed": 0,
    }  # fmt: skip
    return {**row, **keys, **columns}


def tokens(text: str, finish: FinishReason = "stop") -> tuple[int, ...]:
    return (*encode(text), *([STOP_ID] if finish == "stop" else []))


def revision(before: str, after: str, rewards: tuple[float, float], **changes: Any) -> Revision:
    """The revision that makes one text of another; accepted if the reward rises."""
    old, new = tokens(before), tokens(after)
    position = next(n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    values: dict[str, Any] = {
        "position": position, "from_token": old[position], "to_token": new[position],
        "from_text": decode(old[position:][:1]), "to_text": decode(new[position:][:1]),
        "confidence": 0.5, "grad_norm": 0.1, "advantage": 0.2, "reward_before": rewards[0],
        "reward_after": rewards[1], "accepted": rewards[1] > rewards[0],
        "tail_token_ids": new[position:],
    }  # fmt: skip
    return Revision(**{**values, **changes})


def write_run(
    path: Path | str,
    rows: Sequence[dict[str, Any]],
    *,
    finished: bool = True,
    config: dict[str, Any] | None = None,
    rows_per_file: int = 50_000,
) -> str:
    """A run folder of rows, given in the order of the input."""
    store = RunStore(str(path), SCHEMA, Store(rows_per_file=rows_per_file))
    folder = Folder(str(path))
    claim_owner(folder, Owner("generate", "traces/5"))
    settings = {"lm": {"path": "embedded", "revision": None}, "store": asdict(Store())}
    folder.write("config.yaml", yaml.safe_dump({**settings, **(config or {})}).encode())
    folder.write("models.json", json.dumps(MODELS).encode())
    store.commit(rows)
    if finished:
        by_id = {row["prompt_id"]: row["input_fingerprint"] for row in rows}
        slots = Slots(InputIndex(by_id.items()), 1 + max(row["sample"] for row in rows))
        store.rescan(slots)
        store.mark_complete({"checksums": store.compact(slots)})
    return str(path)


def exported(out: Path | str, *runs: Path | str, **settings: Any) -> ExportOutcome:
    config = ExportConfig(run_dir=tuple(map(str, runs)), out=str(out), **settings)
    return export(config, lambda phase, done, total: None)


def rows_of(out: Path | str, split: str = "train", config: str = "default") -> list[dict[str, Any]]:
    """The rows of a dataset folder, as any user would read them."""
    files = sorted((Path(out) / config).glob(f"{split}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]
