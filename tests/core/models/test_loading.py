"""Loading models: the parts are the whole model, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from nabla_core.errors import HeadError, ModelError
from nabla_core.models.loading import language_model, load_language_model, load_reward_model
from nabla_core.types import Identity
from tests.core.tiny import Family, characters, qwen2, save

CPU: dict[str, Any] = {"revision": None, "device": torch.device("cpu"), "dtype": torch.float32}
TOKENIZER = characters("abcdef")


def test_a_missing_folder_is_named(tmp_path: Path):
    missing = tmp_path / "nowhere" / "to-be-found"
    with pytest.raises(ModelError, match=r"to-be-found: no such folder"):
        load_language_model(str(missing), **CPU)
    with pytest.raises(ModelError, match=r"to-be-found: no such folder"):
        load_reward_model(str(missing), **CPU)


def test_a_hub_id_that_cannot_be_reached_is_named():
    with pytest.raises(ModelError, match="somebody/some-model"):
        load_language_model("somebody/some-model", **CPU)


def test_a_folder_without_tokenizer_is_refused(plain: Family, tmp_path: Path):
    folder = shutil.copytree(plain.lm, tmp_path / "lm")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=f"{folder}: no tokenizer files"):
        load_language_model(str(folder), **CPU)


def test_a_folder_without_weights_is_refused(plain: Family, tmp_path: Path):
    folder = shutil.copytree(plain.lm, tmp_path / "lm")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"{folder}: cannot load it as a CausalLM"):
        load_language_model(str(folder), **CPU)


def test_a_truncated_checkpoint_is_refused(plain: Family, tmp_path: Path):
    folder = shutil.copytree(plain.lm, tmp_path / "lm")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=f"{weights}: cannot be read"):
        load_language_model(str(folder), **CPU)


def test_two_labels_are_refused(tmp_path: Path):
    model = Qwen2ForSequenceClassification(qwen2(9, num_labels=2))
    folder = save(tmp_path / "rm", model, TOKENIZER)
    with pytest.raises(HeadError, match=f"{folder}: a reward model has one label, this one has 2"):
        load_reward_model(str(folder), **CPU)


def test_a_language_model_is_no_reward_model(plain: Family):
    with pytest.raises(ModelError, match=str(plain.lm)):
        load_reward_model(str(plain.lm), **CPU)


def test_a_language_model_with_one_label_in_its_config_is_no_reward_model(tmp_path: Path):
    """Its score layer would be random numbers."""
    folder = save(tmp_path / "lm", Qwen2ForCausalLM(qwen2(9)), TOKENIZER)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "reward"}
    config["label2id"] = {"reward": 0}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"score\.weight"):
        load_reward_model(str(folder), **CPU)


def test_a_reward_model_is_no_language_model(plain: Family):
    """Its output head would be random numbers."""
    with pytest.raises(ModelError, match=rf"{plain.judge}.*lm_head\.weight"):
        load_language_model(str(plain.judge), **CPU)


def test_tied_embeddings_are_no_missing_weights(grouped: Family):
    lm = load_language_model(str(grouped.lm), **CPU)
    assert lm.head.weight.data_ptr() == lm.table.data_ptr()


class Shifted(Qwen2ForCausalLM):
    """An LM with something behind its output layer that no config names."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits + 0.01
        return output


def test_what_stands_behind_the_output_layer_is_refused():
    model = Shifted(qwen2(9)).eval()
    with pytest.raises(HeadError, match=r"tiny: logits are not .*embed\(ids\).* \(off by 0.01\)"):
        language_model(model, TOKENIZER, Identity("tiny", "made here"))


@pytest.mark.parametrize(
    ("declared", "stop"), [(1, {1}), ([4, 5], {1, 4, 5}), (None, {1})], ids=str
)
def test_stop_tokens_come_from_generation_config_and_tokenizer(
    tmp_path: Path, declared: Any, stop: set[int]
):
    model = Qwen2ForCausalLM(qwen2(9))
    model.generation_config.eos_token_id = declared
    folder = save(tmp_path / "lm", model, TOKENIZER)
    assert load_language_model(str(folder), **CPU).stop == stop


def test_a_padded_table_never_yields_its_padding(grouped: Family):
    lm = load_language_model(str(grouped.lm), **CPU)
    logits = lm.logits(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (3, lm.vocabulary + 5)
    assert logits[:, : lm.vocabulary].isfinite().all()
    assert (logits[:, lm.vocabulary :] == float("-inf")).all()


def test_parts_and_limits_are_read_from_the_folder(plain: Family):
    lm = load_language_model(str(plain.lm), **CPU)
    assert (lm.context, lm.vocabulary, lm.stop) == (64, 24, frozenset({1}))
    rm = load_reward_model(str(plain.guide), **CPU)
    assert (rm.context, rm.table.shape) == (64, (24, 32))
    assert not any(p.requires_grad for p in [*lm.body.parameters(), *rm.body.parameters()])
