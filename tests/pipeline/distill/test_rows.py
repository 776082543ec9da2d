"""Rows of exports as trainers take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.distill.config import DistillConfig, TrainingRows
from pipeline.distill.exports import read_exports
from pipeline.distill.rows import load_rows
from pipeline.errors import InputError
from tests.pipeline.distill.exported import pairs, texts, write_export


def load(scratch: Path, *exports: Path, **settings):
    data = TrainingRows(exports=tuple(map(str, exports)), **settings)
    return load_rows(read_exports(DistillConfig(data=data)), data, scratch)


def test_prompts_are_held_out_as_a_whole_and_in_every_training(tmp_path: Path):
    twice = [row for row in texts(40) for _ in range(2)]
    export = write_export(tmp_path / "export", twice)
    rows = load(tmp_path / "a", export, held_out=0.25)
    train, held = set(rows.train["prompt_id"]), set(rows.held_out["prompt_id"])
    assert train.isdisjoint(held)
    assert len(train) + len(held) == 40
    assert len(rows.train) == 2 * len(train)
    assert rows.train.column_names == ["prompt", "completion", "prompt_id"]
    fewer = load(tmp_path / "b", write_export(tmp_path / "other", twice[20:]), held_out=0.25)
    assert set(fewer.held_out["prompt_id"]) <= held
    assert rows.overlap([twice[0]["prompt_id"], "unseen"]) == int(twice[0]["prompt_id"] in train)
    assert load(tmp_path / "c", export, held_out=0.0).held_out is None
    assert len(load(tmp_path / "d", export, held_out=0.0, limit=5).train) == 5


def test_the_exports_own_split_is_held_out(tmp_path: Path):
    first = write_export(tmp_path / "one", texts(6), test=texts(3, skip=6))
    rows = load(tmp_path / "a", first, held_out=0.5)
    assert (len(rows.train), len(rows.held_out)) == (6, 3)
    second = write_export(tmp_path / "two", texts(3, skip=6))
    with pytest.raises(InputError, match="3 held-out prompts of one folder are trained on"):
        load(tmp_path / "b", first, second)


def test_the_last_turn_of_a_conversation_is_trained_on(tmp_path: Path):
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
    ]
    made = [{"messages": messages, "prompt_id": "a"}]
    export = write_export(tmp_path / "e", made, layout="messages")
    (row,) = load(tmp_path / "a", export, held_out=0.0).train
    assert (row["prompt"], row["completion"]) == (messages[:2], messages[2:])


def test_missing_files_and_columns_are_named(tmp_path: Path):
    export = write_export(tmp_path / "e", pairs(3), format="preference", layout=None)
    assert load(tmp_path / "a", export, held_out=0.0).train.column_names == [
        "prompt",
        "chosen",
        "rejected",
        "prompt_id",
    ]
    without = [{"prompt": "1", "prompt_id": "a"}]
    with pytest.raises(InputError, match="its rows have no column completion"):
        load(tmp_path / "b", write_export(tmp_path / "f", without), held_out=0.0)
    (export / "default" / "train-00000-of-00001.parquet").write_bytes(b"no Parquet")
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path / "c", export)
    (export / "default" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(InputError, match="is missing: export it again"):
        load(tmp_path / "d", export)
    one = write_export(tmp_path / "g", texts(1))
    with pytest.raises(InputError, match="0 of 1 rows would be held out"):
        load(tmp_path / "x", one, held_out=1e-9)
