"""Rollouts that fail: one row alone gets the error."""

from __future__ import annotations

from typing import Any

import pytest

from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.errors import ContextError
from tests.core.engines.rollout_requests import (
    PROMPTS,
    answers,
    generated,
    language_model,
    rollout,
)
from tests.core.tiny import Family


def test_a_row_that_fails_fails_alone(plain: Family):
    lm, model = language_model(plain), plain.raw("lm")
    ids: list[list[int]] = [lm.tokenizer.encode(text) for text in PROMPTS]
    ids[3] = [5, 999, 5]  # no such token
    results = answers(RolloutEngine(lm, 4, 1 << 20), [rollout(i) for i in ids])
    assert isinstance(results[3], IndexError)
    for n, i in enumerate(ids):
        if n != 3:
            assert results[n].value.tokens == generated(model, i, 12)


def test_a_failure_at_entry_loses_no_answer_given_at_once(plain: Family):
    lm = language_model(plain)
    results = answers(
        RolloutEngine(lm, 4, 1 << 20), [rollout((4, 5), (5, 1)), rollout((5, 999, 5))]
    )
    assert results[0].value.tokens == (5, 1)
    assert isinstance(results[1], IndexError)


def test_a_row_that_fails_on_the_way_fails_alone(plain: Family, monkeypatch: pytest.MonkeyPatch):
    """A pass that breaks while many rows are under way is run again row by row."""
    lm, model = language_model(plain), plain.raw("lm")
    ids = [lm.tokenizer.encode(text) for text in PROMPTS]
    engine = RolloutEngine(lm, 8, 1 << 20)
    draw = engine._draw

    def fragile(logits: Any) -> list[int]:
        if any(row.prompt == tuple(ids[2]) and len(row.tokens) == 3 for row in engine._rows):
            raise RuntimeError("broken")
        return draw(logits)

    monkeypatch.setattr(engine, "_draw", fragile)
    results = answers(engine, [rollout(i) for i in ids])
    assert str(results[2]) == "broken"
    for n, i in enumerate(ids):
        if n != 2:
            assert results[n].value.tokens == generated(model, i, 12)
            # What a failed attempt had generated is not counted twice.
            assert results[n].cost.generated_tokens == len(results[n].value.tokens)


def test_a_response_without_room_is_an_error_not_a_silence(plain: Family):
    lm = language_model(plain)
    (result,) = answers(RolloutEngine(lm, 4, 1 << 20), [rollout((4, 5), limit=0)])
    assert isinstance(result, ContextError)
