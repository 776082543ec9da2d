"""Heads and value heads with random weights, and engines that are guided by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nabla_core import Ranked, Reward, Runtime, load_engines
from nabla_core.engines.base import Engines
from nabla_core.guide_training.head_model import new_head
from nabla_core.guide_training.value_head import new_value_head
from nabla_core.guides.head import HeadGuide
from nabla_core.model_config import LM
from nabla_core.models.loading import load_language_model
from nabla_core.requests import Sweep
from tests.core.tiny import Family, greedy_search

RANKED = greedy_search(proposals="ranked", ranked=Ranked(beta=0.5, min_score=-3.0))


def head_on(family: Family, role: str, path: Path) -> Path:
    """A head on the backbone of a model of a family, its judge or its LM."""
    model = new_head(str(getattr(family, role)))
    assert not model.get_output_embeddings().weight.any()
    torch.manual_seed(7)
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=0.5)
    model.save_pretrained(path)
    family.tokenizer(role).save_pretrained(path)
    return path


def value_head_on(family: Family, path: Path, *, width: int = 24) -> Path:
    """A value head with random weights on the LM of a family."""
    lm = load_language_model(
        str(family.lm), revision=None, device=torch.device("cpu"), dtype=torch.float32
    )
    head = new_value_head(lm, width=width, output="zero", seed=5)
    assert not head.output.weight.any()
    torch.manual_seed(7)
    torch.nn.init.normal_(head.output.weight, std=1.0)
    head.save_pretrained(path)
    return path


def engines_with(family: Family, head: Path, **runtime: Any) -> Engines:
    """The models of a family, and a guide."""
    reward = Reward(judge=str(family.judge), guide=str(head), min_coverage=0.9)
    return load_engines(LM(str(family.lm)), reward, Runtime(device="cpu", **runtime))


def head_of(engines: Engines) -> HeadGuide:
    """The head that guides."""
    guide = engines.serving(Sweep)._guide  # type: ignore[attr-defined]
    assert isinstance(guide, HeadGuide)
    return guide
