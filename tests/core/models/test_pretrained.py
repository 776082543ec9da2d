"""Loading with transformers: which weights may be missing."""

from __future__ import annotations

import pytest
from transformers import AutoModelForSequenceClassification

from nabla_core.errors import ModelError
from nabla_core.models.pretrained import LM_HEADS, load_pretrained, load_tokenizer
from tests.core.tiny import Family


def test_only_named_modules_may_lack_their_weights(plain: Family):
    """An LM has no score layer."""
    auto, path = AutoModelForSequenceClassification, str(plain.lm)
    with pytest.raises(ModelError, match=r"is not a judge: its weights lack score\.weight"):
        load_pretrained(auto, path, purpose="a judge", num_labels=1)
    with pytest.raises(ModelError, match=r"is not a judge: .* no place for: lm_head\.weight"):
        load_pretrained(
            auto, path, purpose="a judge", initialised=lambda model: {"score"}, num_labels=1
        )
    model = load_pretrained(
        auto,
        path,
        purpose="a judge",
        initialised=lambda model: {"score"},
        unused=LM_HEADS,
        num_labels=1,
    )
    assert model.score.out_features == 1
    assert not model.training


def test_a_path_that_is_no_folder_is_not_taken_for_a_hub_id():
    for path in ("./nowhere", "~/nowhere", "/nowhere", "a/b/c"):
        with pytest.raises(ModelError, match="no such folder"):
            load_tokenizer(path, None)
