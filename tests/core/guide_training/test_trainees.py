"""A guide in training predicts what the engines make of it, and it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nabla_core import NablaConfig, Objective, Ranked, Runtime
from nabla_core.engines.loading import build_engines, kind_of
from nabla_core.errors import ModelError
from nabla_core.guide_training.evaluation import agreement
from nabla_core.guide_training.examples import Batch
from nabla_core.guide_training.losses import loss
from nabla_core.guide_training.settings import Kind, Optimise, Target
from nabla_core.guide_training.trainees import guide_encoder, open_trainee
from nabla_core.models.readers import Reader
from nabla_core.requests import Render, Response, Sweep
from tests.core.guide_training.training_data import CPU, KINDS, OPEN, records, trainee_of
from tests.core.guides.heads import head_on
from tests.core.reference import guide_of, serve
from tests.core.tiny import Family


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_trainee_says_is_what_the_engines_make_of_it(family: Family, kind: Kind):
    engines = family.engines()
    trainee, tokenizer, lm = trainee_of(family, kind)
    found = records(engines)
    encoder = guide_encoder(kind, trainee, tokenizer, lm, 0.9)
    examples = [encoder.encode(record) for record in found]
    values, _ = trainee.predict(Batch.of(examples, CPU), differentiable=False)
    predicted = iter(values.tolist())
    judge = guide_of(engines).reader
    guided = build_engines(lm, judge, trainee.guide(lm, 0.9, Runtime()), Runtime(device="cpu"))
    guide = guided.serving(Sweep)._guide  # type: ignore[attr-defined]
    config = NablaConfig(
        proposals="ranked", ranked=Ranked(beta=1.0), objective=Objective(nll_coeff=0.0)
    )
    seen = 0
    for record, example in zip(found, examples, strict=True):
        (context,) = serve(guided, [Render(record.prompt)])
        request = Sweep(context, Response(record.tokens, "length"), 0, config)
        (swept,) = serve(guided, [request])
        state = swept.gradients.guide_states[record.tokens]
        start = len(context.lm if kind == "value_head" else context.guide[0])
        for tried in example.positions:
            position = tried.index - start
            logits = lm.logits(swept.gradients.lm.hidden[[position]].clone())
            row = -guide.rows([(state, position)], config.objective, logits)[0]
            (place,) = [p for p in record.places if p.position == position]
            expected = row[list(place.tokens)].tolist()
            assert next(predicted)[: len(place.tokens)] == pytest.approx(
                expected, abs=1e-3, rel=1e-3
            )
            seen += 1
    assert seen >= 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_learns_what_finite_differences_say(plain: Family, kind: Kind):
    """Through the second derivative where the kind needs one. In fp64 but for the norms."""
    trainee, tokenizer, lm = trainee_of(plain, kind)
    encoder = guide_encoder(kind, trainee, tokenizer, lm, 0.9)
    batch = Batch.of([encoder.encode(r) for r in records(plain.engines())], CPU)
    batch.scores, batch.score = batch.scores.double(), batch.score.double()
    trainee.model.double()
    target = Target(temperature=0.7, score=0.5 if kind == "gradient" else 0.0)
    if kind == "value_head":
        weight = trainee.model.inner.weight
    else:
        weight = trainee.model.base_model.layers[1].mlp.down_proj.weight

    def lost() -> torch.Tensor:
        values, rewards = trainee.predict(batch)
        counts = {"responses": len(batch.ids), "positions": len(batch.row)}
        return double_loss(values, rewards, batch, target, **counts)

    (slope,) = torch.autograd.grad(lost(), weight)
    torch.manual_seed(0)
    direction = torch.randn_like(weight)
    step = 1e-4
    with torch.no_grad():
        weight += step * direction
        above = lost().item()
        weight -= 2 * step * direction
        below = lost().item()
    expected = (above - below) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-2)


def double_loss(*arguments: Any, **counts: int) -> torch.Tensor:
    """`loss` takes what a guide says to fp32; here that would drown the difference."""
    values = arguments[0]
    values.float = lambda: values
    if arguments[1] is not None:
        arguments[1].float = lambda: arguments[1]
    return loss(*arguments, **counts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_learn_a_few_counterfactuals(plain: Family, kind: Kind):
    trainee, tokenizer, lm = trainee_of(plain, kind)
    encoder = guide_encoder(kind, trainee, tokenizer, lm, 0.9)
    examples = [encoder.encode(r) for r in records(plain.engines())]
    batch = Batch.of(examples, CPU)
    before = agreement(trainee, examples, margin=0.0, size=2)
    optimizer = torch.optim.AdamW(trainee.model.parameters(), lr=3e-3)
    for _ in range(200):
        values, rewards = trainee.predict(batch)
        counts = {"responses": len(batch.ids), "positions": len(batch.row)}
        optimizer.zero_grad()
        torch.autograd.backward(loss(values, rewards, batch, Target(), **counts))
        optimizer.step()
    after = agreement(trainee, examples, margin=0.0, size=64)
    one_by_one = agreement(trainee, examples, margin=0.0, size=1)
    assert one_by_one.as_dict() == pytest.approx(after.as_dict(), abs=1e-3)
    assert after.across > max(0.9, before.across)
    assert after.slope == pytest.approx(1.0, abs=0.2)


def test_an_attention_that_cannot_be_differentiated_twice_is_refused(plain: Family):
    with pytest.raises(ModelError, match=r"optimise.attention=sdpa; .* kind: head"):
        trainee_of(plain, "gradient", replace(OPEN, attention="sdpa"))
    trainee_of(plain, "head", replace(OPEN, attention="sdpa"))


def test_frozen_parts_stay_and_too_many_are_refused(plain: Family):
    trainee, *_ = trainee_of(plain, "head", Optimise(frozen_layers=1))
    trained = {n for n, p in trainee.model.named_parameters() if p.requires_grad}
    assert not any("embed_tokens" in n or "layers.0." in n for n in trained)
    assert any("layers.1." in n for n in trained)
    with pytest.raises(ModelError, match=r"frozen_layers is 3; .* has 2"):
        trainee_of(plain, "head", Optimise(frozen_layers=3))


def test_a_gradient_guide_that_starts_as_a_head_is_no_head(plain: Family, tmp_path: Path):
    head = head_on(plain, "judge", tmp_path / "head")
    made = open_trainee(
        "gradient", str(head), plain.tokenizer("judge"), OPEN, revision=None, seed=0
    )
    made.model.save_pretrained(tmp_path / "gradient")
    assert kind_of(str(head), None) == "head"
    assert kind_of(str(tmp_path / "gradient"), None) == "gradient"


def test_a_gradient_guide_may_start_as_the_lm(plain: Family, tmp_path: Path):
    trainee, tokenizer, lm = trainee_of(plain, "gradient", role="lm")
    raw = plain.raw("lm").model.state_dict()
    mine = trainee.model.model.state_dict()
    assert all(torch.equal(raw[name], mine[name]) for name in raw)
    assert isinstance(trainee.guide(lm, 0.9, Runtime()), Reader)
    with pytest.raises(ModelError, match="none: no such folder"):
        open_trainee("gradient", str(tmp_path / "none"), tokenizer, OPEN, revision=None, seed=0)
