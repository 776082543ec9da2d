"""A head as teacher: what it says of every position, and who cannot teach."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nabla_core.engines.base import Engines
from nabla_core.errors import ModelError
from nabla_core.guide_training.examples import Record
from nabla_core.guide_training.head_model import new_head
from nabla_core.guide_training.teacher import Teacher
from nabla_core.models.identity import identify
from nabla_core.models.loading import load_language_model
from nabla_core.requests import Likeliest, Render, Response
from tests.core.guide_training.training_data import records
from tests.core.guides.heads import head_on
from tests.core.reference import serve
from tests.core.tiny import Family


def teacher_of(family: Family, path: Path) -> Teacher:
    lm = load_language_model(
        str(family.lm), revision=None, device=torch.device("cpu"), dtype=torch.float32
    )
    return Teacher.load(str(path), lm, 0.9, revision=None)


def test_every_position_has_the_heads_outputs_for_the_likeliest_tokens(
    family: Family, tmp_path: Path
):
    path = head_on(family, "judge", tmp_path / "head")
    teacher, engines = teacher_of(family, path), family.engines()
    given = records(engines)
    found = list(teacher.label(given, engines, 5, size=2))
    assert sorted(r.name for r in found) == sorted(r.name for r in given)
    assert teacher.identity == identify(str(path), None)
    for record in found:
        (old,) = [r for r in given if r.name == record.name]
        assert (record.tokens, record.score) == (old.tokens, old.score)
        _check(record, engines, teacher, path)


def _check(record: Record, engines: Engines, teacher: Teacher, path: Path) -> None:
    (context,) = serve(engines, [Render(record.prompt)])
    (choices,) = serve(engines, [Likeliest(context, Response(record.tokens, "stop"), 5)])
    ids = teacher.encoder.vocabulary.ids
    before = teacher.encoder.encode(record).positions[0].index - record.places[0].position
    model = new_head(str(path))
    prompt = list(teacher.encoder.encode(record).ids[:before])
    with torch.no_grad():
        out = model(torch.tensor([[*prompt, *ids[list(record.tokens)].tolist()]])).logits[0]
    assert [p.position for p in record.places] == [
        n for n, c in enumerate(choices) if int(ids[c.tokens[0]]) >= 0
    ]
    for place in record.places:
        choice = choices[place.position]
        known = [n for n, token in enumerate(choice.tokens) if int(ids[token]) >= 0]
        assert place.tokens == tuple(choice.tokens[n] for n in known)
        log_p = [choice.log_probabilities[n] for n in known]
        assert place.log_probabilities == pytest.approx(log_p, abs=1e-4)
        row = out[before + place.position - 1, ids[list(place.tokens)]]
        assert place.scores == pytest.approx(row.tolist(), abs=1e-3)


def test_a_reward_model_cannot_teach(plain: Family):
    with pytest.raises(ModelError, match="cannot teach: it is no head"):
        teacher_of(plain, plain.judge)
