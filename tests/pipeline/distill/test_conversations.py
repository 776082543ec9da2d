"""Files of prompts and completions as the data of a student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import distill
from nabla_core.embedded import task
from nabla_core.models.pretrained import load_tokenizer
from pipeline.distill.config import DistillConfig, TrainingRows
from pipeline.distill.exports import read_exports
from pipeline.distill.rows import load_rows
from pipeline.errors import InputError
from tests.pipeline.distill.exported import settings
from tests.pipeline.distill.training import TEMPLATE, prepared

ROWS = [
    {"id": "a", "prompt": "1 + 1 =", "system": "Solve.", "answer": "2", "completion": "1 + 1 = 2"},
    {"id": "b", "question": "2 + 2 =", "completion": "2 + 2 = 4"},
    {"prompt": [{"role": "user", "content": "3 + 3 ="}], "completion": "3 + 3 = 6"},
]


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(scratch: Path, *paths: Path, **more):
    data = TrainingRows(files=tuple(map(str, paths)), **more)
    exports = read_exports(DistillConfig(data=data))
    return exports, load_rows(exports, data, scratch)


def test_rows_are_conversations_with_the_ids_of_their_prompts(tmp_path: Path):
    (export,), rows = read(tmp_path, write(tmp_path / "gold.jsonl", ROWS), held_out=0)
    first, second, third = rows.train.to_list()
    assert first == {
        "prompt": [
            {"role": "system", "content": "Solve."},
            {"role": "user", "content": "1 + 1 ="},
        ],
        "completion": [{"role": "assistant", "content": "1 + 1 = 2"}],
        "prompt_id": "a",
    }
    assert second["prompt"] == [{"role": "user", "content": "2 + 2 ="}]
    assert len(third["prompt_id"]) == 16
    assert rows.overlap(["a", "b", "c"]) == 2
    assert export.facts["splits"] == {"train": 3}
    assert str(tmp_path) not in json.dumps(export.describe())


def test_a_digest_stands_for_the_rows_whatever_the_kind_of_file(tmp_path: Path):
    plain = [{"prompt": f"{n} + 1 =", "completion": str(n + 1)} for n in range(4)]
    table = tmp_path / "gold.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "note": 1} for row in plain]), table)
    lines = write(tmp_path / "gold.jsonl", plain)
    (a, b), rows = read(tmp_path, lines, table, held_out=0, limit=3)
    assert a.digest == b.digest
    assert len(rows.train) == 6
    plain[2]["completion"] = "0"
    (c,), _ = read(tmp_path, write(lines, plain), held_out=0)
    assert c.digest != a.digest


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "gold.jsonl holds no rows"),
        ([ROWS[0], {"prompt": "1 + 1 ="}], "gold.jsonl:2: data.files: the column completion must"),
        ([{"prompt": "1 + 1 =", "completion": 2}], "gold.jsonl:1: data.files: the column"),
        ([{"prompt": "1 + 1 =", "completion": " "}], "gold.jsonl:1: data.files: the column"),
        ([{"completion": "2"}], "gold.jsonl:1"),
    ],
)
def test_a_row_without_prompt_or_completion_is_refused_by_its_place(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, write(tmp_path / "gold.jsonl", rows))


def test_what_is_trained_on_is_named_in_one_place():
    with pytest.raises(ValueError, match=r"in one place: .*data\.exports, files .*data\.files"):
        DistillConfig(data=TrainingRows(exports=("a",), files=("b",)))


def test_gold_solutions_are_trained_on_as_a_whole_and_a_dry_run_counts_them(
    plain, tmp_path: Path, capsys
):
    prompts = task.prompts(20, seed=0, split="train")
    gold = [{"prompt": p.text, "completion": task.solve(p.text), "id": p.id} for p in prompts]
    path = write(tmp_path / "gold.jsonl", gold)
    chat = shutil.copytree(plain.lm, tmp_path / "lm")
    asked = [
        *(a for a in settings(plain, tmp_path, tmp_path / "run") if "data.exports" not in a),
        *(f"data.files=[{path}]", "data.held_out=0", f"student.path={chat}"),
    ]
    assert distill.main([*asked, "--dry-run"]) == 2
    assert f"{path} holds messages, and the tokenizer" in capsys.readouterr().err
    (chat / "chat_template.jinja").write_text(TEMPLATE)
    assert distill.main([*asked, "--dry-run"]) == 0
    assert "gold.jsonl: 20 rows of format sft" in capsys.readouterr().out
    rows = prepared(asked, tmp_path).trainer.train_dataset
    decode = load_tokenizer(str(chat), None).decode
    assert len(rows) == 20
    assert decode(rows[0]["input_ids"]) == f"{gold[0]['prompt']}{gold[0]['completion']}<eos>"
