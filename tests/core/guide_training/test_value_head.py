"""A value head in training: where it starts, what of the LM it keeps, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nabla_core import Runtime
from nabla_core.errors import ModelError
from nabla_core.guide_training.examples import Batch
from nabla_core.guide_training.head_model import new_head, start_from_lm
from nabla_core.guide_training.losses import loss
from nabla_core.guide_training.settings import Target
from nabla_core.guide_training.trainees import guide_encoder
from nabla_core.guide_training.value_head import new_value_head, open_value_head
from nabla_core.guides.value_head import own_vocabulary
from tests.core.guide_training.training_data import CPU, records, trainee_of
from tests.core.guides.heads import value_head_on
from tests.core.tiny import Family


def examples_of(family: Family) -> tuple[Any, list[Any], Any]:
    trainee, tokenizer, lm = trainee_of(family, "value_head")
    encoder = guide_encoder("value_head", trainee, tokenizer, lm, 0.9)
    return trainee, [encoder.encode(record) for record in records(family.engines())], lm


@pytest.mark.parametrize("width", [0, 24])
@pytest.mark.parametrize("output", ["zero", "lm"])
def test_every_advantage_begins_at_zero_and_learns(family: Family, width: int, output: Any):
    _, examples, lm = examples_of(family)
    trainee = open_value_head(None, lm, width=width, output=output, revision=None, seed=0)
    batch = Batch.of(examples, CPU)
    values, rewards = trainee.predict(batch)
    assert rewards is None
    assert not values.any()
    counts = {"responses": len(batch.ids), "positions": len(batch.row)}
    torch.autograd.backward(loss(values, None, batch, Target(), **counts))
    moves = trainee.model.project if output == "lm" else trainee.model.output
    assert moves.weight.grad.any()
    # The rows of tokens that were never tried learn with the others from the LM's layer alone.
    tried = set(batch.tokens[batch.mask].tolist())
    never = [b for b in range(lm.vocabulary) if b not in tried]
    with torch.no_grad():
        for parameter in trainee.model.parameters():
            parameter.sub_(0.1 * parameter.grad)
        hidden = torch.randn(3, lm.head.in_features)
        assert never
        assert bool(trainee.model(hidden)[:, never].any()) == (output == "lm")


def test_the_lm_reads_each_example_once_and_learns_nothing(plain: Family, monkeypatch: Any):
    trainee, examples, lm = examples_of(plain)
    fed: list[int] = []
    forward = lm.body.forward

    def counted(*arguments: Any, **named: Any) -> Any:
        fed.append(len(named["inputs_embeds"]))
        return forward(*arguments, **named)

    monkeypatch.setattr(lm.body, "forward", counted)
    before = {name: p.clone() for name, p in lm.body.named_parameters()}
    first, _ = trainee.predict(Batch.of(examples[:3], CPU))
    again, _ = trainee.predict(Batch.of([*examples[2:], *examples[:2]], CPU))
    assert sum(fed) == len(examples)
    width = first.size(1)
    known = sum(len(e.positions) for e in examples[:2])
    torch.testing.assert_close(again[-known:, :width], first[:known])
    again.sum().backward()
    assert all(torch.equal(p, before[name]) for name, p in lm.body.named_parameters())
    assert all(p.grad is None for p in lm.body.parameters())


def test_a_value_head_is_trained_further_on_its_own_lm_alone(plain: Family, tmp_path: Path):
    path = str(value_head_on(plain, tmp_path / "head"))
    trainee, _, lm = examples_of(plain)
    again = open_value_head(path, lm, width=24, output="zero", revision=None, seed=0)
    assert all(p.requires_grad for p in again.model.parameters())
    assert again.output.weight.any()
    other = replace(lm, identity=replace(lm.identity, revision="sha256:0"))
    with pytest.raises(ModelError, match="head is a value head of the LM"):
        open_value_head(path, other, width=24, output="zero", revision=None, seed=0)
    with pytest.raises(ModelError, match=r"hidden layer of 24 units, and value_head.width is 8"):
        open_value_head(path, lm, width=8, output="zero", revision=None, seed=0)
    assert trainee.guide(lm, 0.9, Runtime()).head is trainee.model


def test_one_seed_gives_one_network(plain: Family):
    _, _, lm = examples_of(plain)
    a, b, c = (new_value_head(lm, width=8, output="zero", seed=s) for s in (0, 0, 1))
    assert torch.equal(a.project.weight, b.project.weight)
    assert not torch.equal(a.project.weight, c.project.weight)


def test_a_new_head_may_start_from_the_lms_output_layer(plain: Family, tmp_path: Path):
    _, _, lm = examples_of(plain)
    head = new_head(str(plain.guide))
    output = head.get_output_embeddings()
    start_from_lm(output, lm, own_vocabulary(lm), "guide")
    assert torch.equal(output.weight, lm.head.weight)
    # One that was trained stays as it is.
    with torch.no_grad():
        output.weight.mul_(2)
    start_from_lm(output, lm, own_vocabulary(lm), "guide")
    assert torch.equal(output.weight, 2 * lm.head.weight)
    narrow = new_head(str(plain.judge)).get_output_embeddings()
    with pytest.raises(ModelError, match=r"judge has 16, .* 32; use start.output: zero"):
        start_from_lm(narrow, lm, own_vocabulary(lm), "judge")
