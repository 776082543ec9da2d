"""The card of a student, for programs and for people."""

from __future__ import annotations

import json

import pytest
import yaml

from jobs.display import student_figures, training_progress
from pipeline.config import load
from pipeline.distill.card import make_card, read_card, readme, write_card
from pipeline.distill.config import DistillConfig
from pipeline.distill.folder import CARD
from pipeline.errors import StoreError
from pipeline.store.files import Folder
from pipeline.training.progress import Progress
from tests.pipeline.distill.exported import settings

METRICS = {
    "step": 4,
    "loss": 0.5,
    "held_out_loss": None,
    "accuracy": 0.4,
    "reward": None,
    "stopped": 0.75,
    "tokens": 16.0,
    "failed": 0,
}


def card_of(plain, tmp_path) -> dict:
    export = {
        "name": "teacher-sft",
        "format": "sft",
        "digest": "c0ffee",
        "kept": 9,
        "dropped": {"wrong": 1},
    }
    history = {
        "description": {
            "base": {"name": "lm", "revision": "sha256:1"},
            "judge": None,
            "weights": {"trained": 3, "method": "full"},
            "loss": "sft",
            "data": {
                "exports": [export],
                "rows": 8,
                "held_out": 1,
                "left_out": {},
                "validation_overlap": 2,
            },
        },
        "baseline": {**METRICS, "accuracy": 0.6},
        "measurements": [METRICS, {**METRICS, "step": 6}],
    }
    config = load(DistillConfig, (), settings(plain, tmp_path, "x"))
    return make_card(config, history, 4)


def test_the_card_names_data_filters_base_and_figures(plain, tmp_path):
    card = card_of(plain, tmp_path)
    assert card["metrics"] == METRICS
    assert card["dpo"] is None
    assert card["versions"]["trl"].startswith("1.")
    text = readme(card)
    assert yaml.safe_load(text.split("---")[1])["base_model"] == "lm"
    for part in (
        "`sha256:1`",
        "| teacher-sft | sft | `c0ffee` | 9 | wrong: 1 |",
        "0.6000 | 0.4000",
    ):
        assert part in text
    warnings = "\n".join(student_figures.warnings(card))
    assert "2 of the validation prompts" in warnings
    assert "the accuracy of the student, 0.400, is below that of its base, 0.600" in warnings
    assert "25.0% of the student's responses do not stop by themselves" in warnings
    assert student_figures.table(card).row_count == 2


def test_a_damaged_card_and_one_of_another_schema_are_named(plain, tmp_path):
    folder = Folder(str(tmp_path))
    card = card_of(plain, tmp_path)
    write_card(folder, card)
    assert read_card(folder) == json.loads(json.dumps(card))
    for content, message in (
        (b"{", "is damaged: delete it"),
        (json.dumps({**card, "metrics": None}).encode(), "is damaged: delete it"),
        (b'{"schema": "student/0"}', "has schema student/0 and this version reads student/1"),
    ):
        folder.write(CARD, content)
        with pytest.raises(StoreError, match=message):
            read_card(folder)


def test_progress_tells_the_time_that_is_left():
    assert training_progress.line(Progress(step=10, steps=250, seconds=0.5)) == (
        "step 10/250  0.50 s/step  2:00 left"
    )
    assert training_progress.line(Progress(step=0, steps=8000, seconds=1.0)).endswith(
        "2:13:20 left"
    )
