"""From names of models to engines: roles, vocabularies, devices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    Qwen2ForSequenceClassification,
)

from nabla_core import Reward, Runtime, load_engines
from nabla_core.errors import ModelError, VocabularyError
from nabla_core.model_config import LM
from tests.core.tiny import Family, characters, qwen2, save

TOKENIZER = characters("abcdef")


def test_one_folder_in_both_roles_is_loaded_once(plain: Family):
    both = load_engines(LM(str(plain.lm)), Reward(judge=str(plain.judge)), Runtime(device="cpu"))
    assert both.identities["guide"] is both.identities["judge"]
    assert both.identities["judge"].name == plain.judge.name
    two = plain.engines()
    assert two.identities["guide"].name == plain.guide.name


def test_a_reward_model_that_knows_too_few_tokens_is_refused(tmp_path: Path, plain: Family):
    model = Qwen2ForSequenceClassification(qwen2(9, num_labels=1))
    folder = save(tmp_path / "rm", model, TOKENIZER)
    with pytest.raises(VocabularyError, match=rf"{folder} knows 3 of the 24 tokens of {plain.lm}"):
        load_engines(LM(str(plain.lm)), Reward(judge=str(folder)), Runtime(device="cpu"))


def test_a_device_that_is_not_there_is_refused(plain: Family):
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    with pytest.raises(ModelError, match=r"runtime\.device: cuda cannot be used"):
        plain.engines(Runtime(device="cuda"))
