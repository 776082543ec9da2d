"""A head on the backbone of another model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nabla_core.errors import ModelError
from nabla_core.guide_training.head_model import new_head
from tests.core.guides.heads import head_on
from tests.core.tiny import Family


@pytest.mark.parametrize("role", ["judge", "lm"])
def test_a_new_head_predicts_nothing_on_the_weights_of_its_backbone(family: Family, role: str):
    head = new_head(str(getattr(family, role)))
    assert not head.get_output_embeddings().weight.any()
    assert head.get_output_embeddings().weight is not head.get_input_embeddings().weight
    raw = family.raw(role).base_model.state_dict()
    assert all(torch.equal(raw[name], w) for name, w in head.base_model.state_dict().items())


def test_the_output_layer_of_a_head_is_kept(plain: Family, tmp_path: Path):
    path = head_on(plain, "judge", tmp_path / "head")
    first = new_head(str(path)).get_output_embeddings().weight
    assert first.any()
    assert torch.equal(first, new_head(str(path)).get_output_embeddings().weight)


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        new_head(str(tmp_path))
