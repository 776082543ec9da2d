"""Guided rollouts that cannot go on, and think blocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nabla_core.config import Sampling
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.errors import ContextError, EncodingError, ModelError, NonFiniteError
from nabla_core.guides.decoding import HistoryReader
from nabla_core.guides.head import HeadGuide
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Reply, Rollout
from nabla_core.text.thinking import ThinkBlock
from tests.core.engines.guided_requests import (
    SAMPLINGS,
    contexts_of,
    engine_of,
    expected,
    load,
    request,
)
from tests.core.engines.rollout_requests import GREEDY, answers
from tests.core.guides.heads import engines_with, head_of, head_on
from tests.core.tiny import Family, greedy_search


def test_advantages_that_are_not_finite_fail_their_prompt_alone(
    plain: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide, head = head_of(engines), load(tmp_path)
    asked = [request(c, Sampling(0, beta=0.5)) for c in contexts_of(engines, 4)]
    predicted = guide.next_advantages

    def broken(hidden: Tensor) -> Tensor:
        rows = predicted(hidden)
        if len(rows) == 4:
            rows[2, 5] = float("nan")
        return rows

    monkeypatch.setattr(guide, "next_advantages", broken)
    found = answers(RolloutEngine(guide.lm, 8, 1 << 20, guide=guide), asked)
    assert isinstance(found[2], NonFiniteError)
    assert f"prompt {asked[2].key.prompt_id}: the guide's advantages" in str(found[2])
    for n in (0, 1, 3):
        assert found[n].value.tokens == expected(plain, guide, head, asked[n])


def test_a_batch_that_fails_is_run_again_row_by_row(
    plain: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide, head = head_of(engines), load(tmp_path)
    asked = [request(c, SAMPLINGS[n]) for n, c in enumerate(contexts_of(engines, 6))]
    engine = RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)
    draw = engine._draw

    def fragile(logits: Any) -> list[int]:
        if any(r.prompt == asked[1].context.lm and len(r.tokens) == 2 for r in engine._rows):
            raise RuntimeError("broken")
        return draw(logits)

    monkeypatch.setattr(engine, "_draw", fragile)
    found = answers(engine, asked)
    assert str(found[1]) == "broken"
    for n in (0, 2, 3, 4, 5):
        assert found[n].value.tokens == expected(plain, guide, head, asked[n])


def test_a_token_that_the_guide_does_not_know_ends_its_prompt_alone(plain: Family, tmp_path: Path):
    """It has advantage 0, so it may be drawn; then the guide can read no further."""
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide, head = head_of(engines), load(tmp_path)
    asked = [request(c, Sampling(0, beta=4.0)) for c in contexts_of(engines, 6)]
    before = [r.value.tokens for r in answers(engine_of(guide), asked)]
    # The most frequent of those that another one follows.
    ((token, _),) = Counter(t for tokens in before for t in set(tokens[:-1])).most_common(1)
    ids = guide.vocabulary.ids.clone()
    ids[token] = -1
    blind = HeadGuide(guide.lm, guide.head, VocabularyMap(ids, 0.9), return_cache=True)
    hidden = torch.ones(2, guide.head.shape.hidden)
    assert guide.next_advantages(hidden)[:, token].all()
    assert not blind.next_advantages(hidden)[:, token].any()
    found = answers(engine_of(blind), asked)
    failed = 0
    for asking, result in zip(asked, found, strict=True):
        if isinstance(result, EncodingError):
            failed += 1
            assert str(result).startswith(f"prompt {asking.key.prompt_id}: token {token} at")
        else:
            assert result.value.tokens == expected(plain, blind, head, asking)
    assert 0 < failed < 6
    # So does one in a prefix, unless nothing is left to draw.
    (refused,) = answers(engine_of(blind), [request(asked[0].context, asked[0].sampling, (token,))])
    assert isinstance(refused, EncodingError)
    ended = replace(asked[0], prefix=(token,), max_tokens=1)
    assert answers(engine_of(blind), [ended])[0].value.tokens == (token,)


def test_a_response_that_reasons_is_read_as_the_template_frames_it(plain: Family, tmp_path: Path):
    """What is in front of a response changes with its tags; the head then reads it again."""
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide = head_of(engines)
    ids = guide.lm.tokenizer.encode("+;-;")
    think = ThinkBlock("+;", "-;", tuple(ids), tuple(ids[:2]), drops=False)
    contexts = [replace(c, guide=((*c.guide[0], *ids), ())) for c in contexts_of(engines, 6)]
    reading = HeadGuide(guide.lm, guide.head, guide.vocabulary, return_cache=True)
    reading.reader = HistoryReader(guide.head, guide.vocabulary, think)
    plus, semicolon, minus = ids[0], ids[1], ids[2]
    prefixes = [(plus,), (plus, semicolon), (9, minus), (9, minus, semicolon), (9,), ()]
    asked = [
        request(c, Sampling(0, beta=0.5), prefix)
        for c, prefix in zip(contexts, prefixes, strict=True)
    ]
    # Every digit is changed into the second half of a tag.
    draw = RolloutEngine._draw
    engine = engine_of(reading)

    def tagging(logits: Any) -> list[int]:
        drawn = draw(engine, logits)
        return [
            semicolon if len(row.tokens) in (1, 2) else token
            for row, token in zip(engine._rows, drawn, strict=True)
        ]

    engine._draw = tagging  # type: ignore[method-assign]
    reads: list[list[int]] = []
    advantages = reading.next_advantages

    def recorded(hidden: Tensor) -> Tensor:
        reads.extend(list(row.guide_history) for row in engine._guided._rows)
        return advantages(hidden)

    reading.next_advantages = recorded  # type: ignore[method-assign]
    found = answers(engine, asked)
    seen = set(map(tuple, reads))
    wanted = set()
    for asking, result in zip(asked, found, strict=True):
        tokens = result.value.tokens
        for n in range(len(asking.prefix), len(tokens)):
            body = guide.vocabulary.translate(tokens[:n])
            text = guide.head.tokenizer.decode(body)
            wanted.add((*think.before(asking.context.guide[0], text), *body))
    assert seen == wanted
    # Both tags occur, and a history that one changed is read once more.
    assert [r.cost.rm_forward for r in found] == [2, 1, 2, 1, 1, 1]


def test_the_heads_context_ends_a_response_too(plain: Family, tmp_path: Path):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide = head_of(engines)
    context = contexts_of(engines, 1)[0]
    small = replace(guide.head, context=len(context.guide[0]) + 3)
    short = HeadGuide(guide.lm, small, guide.vocabulary, return_cache=True)
    asked = [request(context, Sampling(0, beta=9.0)), request(context, GREEDY)]
    (led, free) = answers(engine_of(short), asked)
    assert len(free.value.tokens) > 3
    assert (len(led.value.tokens), led.value.finish) == (3, "length")
    none = HeadGuide(
        guide.lm, replace(small, context=len(context.guide[0])), guide.vocabulary, return_cache=True
    )
    (refused, free) = answers(engine_of(none), asked)
    assert isinstance(refused, ContextError)
    assert len(free.value.tokens) > 3


def test_without_a_guide_that_decodes_a_guided_rollout_is_refused(plain: Family):
    engines = plain.engines()
    (refused, fine) = answers(
        engines.serving(Rollout),  # type: ignore[arg-type]
        [request(c, s) for c, s in zip(contexts_of(engines, 2), SAMPLINGS[::4], strict=False)],
    )
    assert isinstance(refused, ModelError)
    assert isinstance(fine, Reply)


def test_a_gradient_guide_is_refused_by_its_name(plain: Family):
    engines = plain.engines()
    for check, asked in (
        (engines.check_sampling, Sampling(0, beta=0.5)),
        (engines.check, greedy_search(rollout=Sampling(0, beta=0.5))),
    ):
        with pytest.raises(ModelError, match=f"{plain.guide} is a reward model.*beta=0.5"):
            check(asked)  # type: ignore[operator]
    engines.check_sampling(Sampling(1.0))
