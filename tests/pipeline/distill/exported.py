"""Folders as `nabla export` writes them, and configs that train on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nabla_core.embedded import task
from nabla_core.models.pretrained import load_tokenizer
from nabla_core.text.fingerprint import fingerprint
from pipeline.store.files import checksum_of
from tests.core.tiny import Family

Row = Mapping[str, Any]


def write_export(
    out: Path,
    rows: Sequence[Row],
    *,
    format: str = "sft",
    layout: str | None = "text",
    tokenizer: str | None = None,
    test: Sequence[Row] = (),
) -> Path:
    """A complete folder with these rows in its config `default`."""
    files = {}
    for split, content in (("train", rows), ("test", test)):
        if content:
            name = f"default/{split}-00000-of-00001.parquet"
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(list(content)), out / name)
            files[name] = checksum_of((out / name).read_bytes())
    facts = {
        "schema": "export/1",
        "format": format,
        "layout": layout,
        "config": {"filters": {"verified": True}},
        "config_hash": "c0ffee",
        "sources": [{"name": "teacher", "rows": len(rows)}],
        "partial": False,
        "tokenizer": {"name": "lm", "fingerprint": tokenizer, "stop_ids": [1]},
        "read": len(rows) + 1,
        "dropped": {"wrong": 1},
        "kept": len(rows),
        "splits": {"train": len(rows), **({"test": len(test)} if test else {})},
        "statistics": {},
        "files": files,
    }
    (out / "_EXPORT").write_text("{}")
    written = json.dumps(facts).encode()
    (out / "export.json").write_bytes(written)
    (out / "_SUCCESS").write_text(checksum_of(written))
    return out


def texts(count: int, *, skip: int = 0) -> list[dict[str, Any]]:
    """Right responses to prompts of the embedded task, each with the stop token at its end."""
    prompts = task.prompts(count + skip, seed=0, split="train")[skip:]
    return [
        {
            "prompt": p.text,
            "completion": f"{task.solve(p.text)}<eos>",
            "prompt_id": p.id,
            "sample": 0,
        }
        for p in prompts
    ]


def tokens(rows: Sequence[Row], family: Family) -> list[dict[str, Any]]:
    """The same rows as tokens of the family's LM."""
    encode = load_tokenizer(str(family.lm), None).encode
    made = []
    for row in rows:
        prompt, completion = encode(row["prompt"]), encode(row["completion"])
        labels = [-100] * len(prompt) + completion
        made.append(
            {"input_ids": prompt + completion, "labels": labels, "prompt_id": row["prompt_id"]}
        )
    return made


def pairs(count: int) -> list[dict[str, Any]]:
    """Messages: a right response, and one with a wrong last digit."""
    made = []
    for row in texts(count):
        right = row["completion"].removesuffix("<eos>")
        wrong = f"{right[:-1]}{(int(right[-1]) + 1) % 10}"
        made.append(
            {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "chosen": [{"role": "assistant", "content": right}],
                "rejected": [{"role": "assistant", "content": wrong}],
                "reward_margin": 1.0,
                "prompt_id": row["prompt_id"],
            }
        )
    return made


def fingerprint_of(family: Family) -> str:
    return fingerprint(load_tokenizer(str(family.lm), None))


def settings(family: Family, export: Path, run: Path | str, *more: str) -> list[str]:
    """Overrides of `jobs.distill` that train on the folder in six steps."""
    return [
        *(f"run_dir={run}", f"data.exports=[{export}]", f"student.path={family.lm}"),
        *("optimise.steps=6", "optimise.batch=8", "optimise.micro_batch=2"),
        *("optimise.learning_rate=1e-3", "data.held_out=0.1", "optimise.attention=eager"),
        *("validation.prompts.path=embedded", "validation.prompts.limit=6"),
        *("validation.verify.method=embedded", "validation.metric=accuracy"),
        *("validation.max_tokens=20", "validation.every=2"),
        *more,
    ]
