"""LoRA adapters in folders of their own: the model that they make of their base, or an error that
names what they lack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nabla_core.errors import ModelError
from nabla_core.models.loading import load_language_model
from tests.core.tiny import Family

peft = pytest.importorskip("peft", reason="peft is an optional package")

CPU: dict[str, Any] = {"revision": None, "device": torch.device("cpu"), "dtype": torch.float32}
KEY = r"model\.layers\.1\.self_attn\.q_proj\.lora_A\.default\.weight"


@pytest.fixture
def adapted(plain: Family, tmp_path: Path) -> tuple[Any, Path]:
    """An adapted LM and the folder of its adapter."""
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(plain.raw("lm"), config)
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    for file in plain.lm.glob("tokenizer*"):
        shutil.copy(file, folder)
    return model, folder


def test_an_adapter_is_loaded_onto_its_base(adapted: tuple[Any, Path], plain: Family):
    model, folder = adapted
    lm = load_language_model(str(folder), **CPU)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        found = lm.logits(lm.body(inputs_embeds=lm.embed(ids)).last_hidden_state)
        torch.testing.assert_close(found, model(input_ids=ids).logits)
        assert not torch.allclose(found, plain.raw("lm")(input_ids=ids).logits, atol=1e-2)


def test_an_adapter_without_a_tokenizer_has_that_of_its_base(
    adapted: tuple[Any, Path], plain: Family
):
    """So peft saves them; TRL saves the tokenizer too."""
    _, folder = adapted
    own = load_language_model(str(folder), **CPU).tokenizer
    for file in folder.glob("tokenizer*"):
        file.unlink()
    found = load_language_model(str(folder), **CPU).tokenizer
    assert found.get_vocab() == own.get_vocab() == plain.tokenizer("lm").get_vocab()


def without(weights: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in weights.items() if "layers.1" not in key}


def elsewhere(weights: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("layers.1", "layers.7"): value for key, value in weights.items()}


def wider(weights: dict[str, Any]) -> dict[str, Any]:
    key = next(key for key in weights if "layers.1" in key and "lora_A" in key)
    return {**weights, key: torch.zeros(3, 32)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without, f"its weights lack {KEY}"),
        (elsewhere, f"its weights lack {KEY}"),
        (wider, rf"other shapes than its config {KEY} \[3, 32\] for \[2, 32\]"),
    ],
)
def test_an_adapter_of_another_model_is_refused_by_its_keys(
    adapted: tuple[Any, Path], change: Callable[[dict[str, Any]], dict[str, Any]], told: str
):
    _, folder = adapted
    weights = folder / "adapter_model.safetensors"
    save_file(change(load_file(weights)), weights)
    with pytest.raises(ModelError, match=f"{folder} is not a CausalLM: .*{told}"):
        load_language_model(str(folder), **CPU)


@pytest.mark.parametrize("entry", ["auto_map", "quantization_config"])
def test_the_base_of_an_adapter_is_held_to_the_same(
    adapted: tuple[Any, Path], plain: Family, tmp_path: Path, entry: str
):
    _, folder = adapted
    base = Path(shutil.copytree(plain.lm, tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    config[entry] = {"AutoModel": "own.Own", "quant_method": "gptq"}
    (base / "config.json").write_text(json.dumps(config))
    described = json.loads((folder / "adapter_config.json").read_text())
    described["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(described))
    with pytest.raises(ModelError, match=f"{base}: its (config names code|weights are quantized)"):
        load_language_model(str(folder), **CPU)
