"""The passes of a model in training are counted, those of steps apart from those of evaluations."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2ForCausalLM

from nabla_core.models.training_flops import TrainedShape
from pipeline.training.cost import Meter
from pipeline.training.passes import count_passes
from tests.core.tiny import qwen2


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Qwen2ForCausalLM(qwen2(24))


def shape_of(model):
    return TrainedShape.of(model.model, model.config, model.lm_head)


IDS, MASK = torch.ones(2, 5, dtype=torch.long), torch.tensor([[1] * 5, [1] * 3 + [0] * 2])


def test_steps_and_evaluations_are_counted_apart_and_padding_is_not(model):
    shape, meter = shape_of(model), Meter()
    count_passes(SimpleNamespace(model=model), meter, recomputes=False)
    model.train()
    model(input_ids=IDS, attention_mask=MASK)
    assert meter.steps == shape.step(5, 5) + shape.step(3, 3)
    model.eval()
    with torch.no_grad():
        model(input_ids=IDS)
    assert meter.measurements == 2 * shape.forward(5, 5)


def test_a_reference_and_a_recomputed_pass_cost_a_forward_pass_each(model):
    shape, meter = shape_of(model), Meter()
    reference = Qwen2ForCausalLM(qwen2(24)).eval()
    trainer = SimpleNamespace(model=model, ref_model=reference)
    count_passes(trainer, meter, recomputes=True)
    model.train()
    with torch.no_grad():
        reference(input_ids=IDS)
    assert meter.steps == 2 * shape.forward(5, 5)
    model(input_ids=IDS)
    assert meter.steps == 2 * (shape.forward(5, 5) + shape.step(5, 5) + shape.shape.forward(5))


def test_adapters_are_what_is_trained(model):
    peft = pytest.importorskip("peft", reason="peft is an optional package")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    meter = Meter()
    count_passes(SimpleNamespace(model=adapted), meter, recomputes=False)
    adapted.train()
    adapted(input_ids=IDS)
    plain = shape_of(adapted.get_base_model())
    assert meter.steps == 2 * plain.step(5, 5)
    assert 0 < plain.trained < plain.reached / 4
    # TRL's reference is the same model without its adapters, and takes no gradient.
    with torch.no_grad(), adapted.disable_adapter():
        adapted(input_ids=IDS)
    assert meter.steps == 2 * (plain.step(5, 5) + plain.forward(5, 5))


def test_a_training_that_goes_on_from_an_older_checkpoint_tells_no_cost():
    meter = Meter(data=3.0)
    meter.steps = 7.0
    told = {"cost": meter.spent()}
    again = Meter(data=3.0)
    again.resume(told)
    assert again.spent()["steps"] == 7.0
    again.resume({"step": 2})
    assert again.spent() is None
