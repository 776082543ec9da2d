"""The estimate of training against torch's counter, which counts attention as the full square."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.models.training_flops import TrainedShape
from tests.core.models.test_flops import WIDE, counted
from tests.core.tiny import qwen2

LENGTH = 40
# Eager attention has one product less backwards than a fused kernel, and forms the whole square.
SQUARE = 2 * LENGTH / (LENGTH + 1)


def everything(model: Any) -> None:
    model.requires_grad_(True)


def upper_layers(model: Any) -> None:
    model.requires_grad_(False)
    model.model.layers[1:].requires_grad_(True)
    model.get_output_embeddings().requires_grad_(True)


@pytest.mark.parametrize("freeze", [everything, upper_layers])
def test_a_step_on_an_lm(freeze: Callable[[Any], None]):
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(qwen2(24, **WIDE))
    freeze(model)
    shape = TrainedShape.of(model.model, model.config, model.lm_head)
    ids = torch.randint(24, (1, LENGTH))

    def step() -> None:
        loss = model(input_ids=ids, use_cache=False).logits.sum()
        torch.autograd.backward(loss, inputs=[p for p in model.parameters() if p.requires_grad])

    found = counted(step)
    backward = 10.0 * shape.layers * 64 * LENGTH * (LENGTH + 1) / 2
    forward = 4.0 * 3 * 64 * LENGTH * (LENGTH + 1) / 2
    linear = shape.step(LENGTH, LENGTH) - backward - forward
    # The lowest trained layer's first products need no gradient of their input.
    assert linear == pytest.approx(found["linear"], rel=0.06)
    assert (forward + backward * 4 / 5) * SQUARE == pytest.approx(found["attention"], rel=0.06)


def test_what_is_frozen_costs_less():
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(qwen2(24, **WIDE))
    steps = []
    for freeze in (everything, upper_layers):
        freeze(model)
        shape = TrainedShape.of(model.model, model.config, model.lm_head)
        steps.append(shape.step(LENGTH, LENGTH))
    assert steps[1] < 0.85 * steps[0]
    model.requires_grad_(False)
    shape = TrainedShape.of(model.model, model.config, model.lm_head)
    assert (shape.trained, shape.reached, shape.layers) == (0, 0, 0)


@pytest.mark.parametrize("lower", [0, 2])
def test_a_step_on_a_gradient(lower: int):
    torch.manual_seed(0)
    model = Qwen2ForSequenceClassification(qwen2(24, num_labels=1, **WIDE))
    model.model.embed_tokens.requires_grad_(False)
    model.model.layers[:lower].requires_grad_(False)
    shape = TrainedShape.of(model.model, model.config, model.score)
    assert shape.layers == 3 - lower
    e = torch.randn(1, LENGTH, 64, requires_grad=True)

    def step() -> None:
        hidden = model.model(inputs_embeds=e, use_cache=False).last_hidden_state
        reward = model.score(hidden[:, -1]).sum()
        (gradient,) = torch.autograd.grad(reward, e, create_graph=True)
        trained = [p for p in model.parameters() if p.requires_grad]
        torch.autograd.backward((gradient**2).sum(), inputs=trained)

    found = counted(step)
    pairs = LENGTH * (LENGTH + 1) / 2
    attention = 4.0 * 3 + 10 * 3 + 8 * 3 + 16 * shape.layers
    linear = shape.double_backward(LENGTH) - attention * 64 * pairs
    assert linear == pytest.approx(found["linear"], rel=0.1)
    assert (attention - 2 * 3) * 64 * pairs * SQUARE == pytest.approx(found["attention"], rel=0.1)
