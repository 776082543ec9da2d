"""LoRA for guides: what learns, and that the plain model delivered is the one that was trained."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nabla_core.errors import ModelError
from nabla_core.guide_training.examples import Batch
from nabla_core.guide_training.losses import loss
from nabla_core.guide_training.settings import Kind, Lora, Optimise, Target
from nabla_core.guide_training.trainees import Trainee, guide_encoder, open_trainee, scaled
from nabla_core.models.loading import load_language_model
from pipeline.errors import ConfigError
from pipeline.train_guide.lora import adapt, adapted, merged
from tests.core.guide_training.training_data import CPU, WITH_BACKBONE, records
from tests.core.tiny import Family

FILE = "model.safetensors"
LORA = Optimise(lora=Lora(rank=4, alpha=16))


def opened(family: Family, kind: Kind, optimise: Optimise = LORA, path: Path | None = None) -> Any:
    """A trainee with adapters, and a batch to teach it."""
    tokenizer = family.tokenizer("guide")
    trainee = open_trainee(
        kind,
        str(path or family.guide),
        tokenizer,
        optimise,
        revision=None,
        seed=3,
        adapt=adapt(optimise, seed=3),
    )
    lm = load_language_model(str(family.lm), revision=None, device=CPU, dtype=torch.float32)
    encoder = guide_encoder(kind, trainee, tokenizer, lm, 0.9)
    return trainee, Batch.of([encoder.encode(r) for r in records(family.engines())], CPU)


def learn(trainee: Trainee, batch: Batch, steps: int = 5) -> None:
    trained = [p for p in trainee.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-2)
    for _ in range(steps):
        values, rewards = trainee.predict(batch)
        counts = {"responses": len(batch.ids), "positions": len(batch.row)}
        optimizer.zero_grad()
        torch.autograd.backward(loss(values, rewards, batch, Target(), **counts), inputs=trained)
        optimizer.step()


def snapshot(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", WITH_BACKBONE)
def test_adapters_and_the_output_layer_learn_and_nothing_else(family: Family, kind: Kind):
    trainee, batch = opened(family, kind)
    output = {"gradient": "score.weight", "head": "lm_head.weight"}[kind]
    before = snapshot(trainee.model)
    learn(trainee, batch)
    changed = {n for n, p in trainee.model.named_parameters() if not torch.equal(p, before[n])}
    expected = {n for n in before if ".lora_" in n} | {output}
    assert changed == expected
    assert len(adapted(trainee.model)) == 2 * 7
    assert {n for n, p in trainee.model.named_parameters() if p.grad is not None} == expected


@pytest.mark.parametrize("kind", WITH_BACKBONE)
def test_the_plain_folder_says_what_the_trainee_says_times_the_calibration(
    family: Family, kind: Kind, tmp_path: Path
):
    trainee, batch = opened(family, kind)
    start, _ = trainee.predict(batch, differentiable=False)
    learn(trainee, batch)
    trained, _ = trainee.predict(batch, differentiable=False)
    assert not torch.allclose(start, trained, rtol=0.1, atol=0.1)
    before = snapshot(trainee.model)
    with merged(trainee), scaled(trainee, 1.7):
        assert not adapted(trainee.model)
        calibrated, _ = trainee.predict(batch, differentiable=False)
        trainee.model.save_pretrained(tmp_path)
    after = snapshot(trainee.model)
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    again, _ = trainee.predict(batch, differentiable=False)
    assert torch.equal(again, trained)

    torch.testing.assert_close(calibrated, 1.7 * trained, rtol=1e-4, atol=1e-4)
    assert not any("lora" in n or "base_layer" in n for n in load_file(tmp_path / FILE))
    assert sorted(p.suffix for p in tmp_path.iterdir() if "adapter" in p.name) == []
    plain, _ = opened(family, kind, Optimise(), tmp_path)
    delivered, _ = plain.predict(batch, differentiable=False)
    torch.testing.assert_close(delivered, calibrated, rtol=1e-5, atol=1e-5)


def test_targets_and_frozen_layers_are_kept_to(plain: Family):
    narrow = replace(LORA, frozen_layers=1, lora=Lora(4, 16, ("q_proj", "down_proj")))
    trainee, _ = opened(plain, "head", narrow)
    names = {n for n, p in trainee.model.named_parameters() if p.requires_grad}
    assert names == {
        "lm_head.weight",
        *(
            f"model.layers.1.{layer}.lora_{side}.default.weight"
            for layer in ("self_attn.q_proj", "mlp.down_proj")
            for side in "AB"
        ),
    }


def test_every_worker_draws_the_same_adapters(plain: Family):
    drawn = []
    for noise in range(2):
        torch.manual_seed(noise)
        drawn.append(snapshot(opened(plain, "head")[0].model))
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_what_cannot_be_adapted_is_named(plain: Family, monkeypatch):
    with pytest.raises(ModelError, match=r"named 'c_attn'; there are .*o_proj, q_proj"):
        opened(plain, "head", replace(LORA, lora=Lora(4, 16, ("c_attn",))))
    with pytest.raises(ModelError, match="every layer that could have an adapter is frozen"):
        opened(plain, "head", replace(LORA, frozen_layers=2))
    with pytest.raises(ValueError, match="freeze_embeddings: false contradicts"):
        replace(LORA, freeze_embeddings=False)
    with pytest.raises(ValueError, match="rank must be at least 0"):
        Lora(-1)
    with pytest.raises(ModelError, match=r"optimise.attention=sdpa; .* kind: head"):
        opened(plain, "gradient", replace(LORA, attention="sdpa"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"rank=4 needs peft.*pip install .*\[train\]"):
        adapt(LORA, 0)
    assert adapt(Optimise(), 0) is None
