"""Models of which the config alone is known: that of a folder, or of a known id."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoConfig

from nabla_core.embedded.weights import Role, model_location
from nabla_core.engines.loading import kind_of
from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward
from nabla_core.models.outline import Outline, sketch
from nabla_core.models.pretrained import load_config
from nabla_core.models.value_head import ValueHeadConfig
from pipeline.preview.models import Models

SHAPES = Path(__file__).parent / "shapes.yaml"


@cache
def known() -> dict[str, dict[str, Any]]:
    """The recorded shapes, by id."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(SHAPES.read_text())
    return found


def models_of(lm: LM, reward: Reward) -> Models:
    """The models of a run. Raises ModelError naming what is neither a folder nor known."""
    language = _outline(lm.path, lm.revision, "lm")
    judge = None
    if reward.judge is not None:
        judge = _outline(reward.judge, reward.judge_revision, "judge")
    if reward.guide is None:
        return Models(lm=language, judge=judge, guide=judge, kind="gradient", warnings=[])
    location = model_location(reward.guide, "guide")
    kind = "gradient" if location in known() else kind_of(location, reward.guide_revision)
    if kind == "value_head":
        head = load_config(location, reward.guide_revision)
        assert isinstance(head, ValueHeadConfig)
        return Models(
            lm=language, judge=judge, guide=judge, kind=kind, warnings=[], value_head=head
        )
    guide = _outline(reward.guide, reward.guide_revision, "head" if kind == "head" else "guide")
    return Models(lm=language, judge=judge, guide=guide, kind=kind, warnings=[])


def _outline(path: str, revision: str | None, role: Role) -> Outline:
    location = model_location(path, role)
    return sketch(
        location, _config(location, revision, role), role if role in ("lm", "head") else "reward"
    )


def _config(location: str, revision: str | None, role: Role) -> Any:
    reward = {} if role in ("lm", "head") else {"num_labels": 1}
    if location in known() and not Path(location).exists():
        shape = dict(known()[location])
        return AutoConfig.for_model(shape.pop("model_type"), **shape, **reward)
    try:
        config = load_config(location, revision)
    except ModelError as error:
        raise ModelError(
            f"{error}\nAn estimate needs the shape alone: a folder with a config.json, or one of "
            f"the known ids ({', '.join(known())})"
        ) from error
    if reward:
        config.num_labels = 1
    return config
