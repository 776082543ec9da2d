"""Which trained models an arm depends on, and what their training cost, as their cards tell it.

- The LM, where it is another than the base LM of the comparison: an RL policy, a student.
- The judge, where it chooses among responses, and where the arm has a guide or a policy: those have
  learned from its rewards.
- The guide, where the method uses one that is not the judge itself.

A card lies beside the weights (`card.json`). Models of elsewhere have none, and earlier versions
wrote no cost into it: then it is unknown, which is not 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nabla_core.config import Decoding
from nabla_core.embedded.weights import Role, model_location
from nabla_core.model_config import LM, Reward
from pipeline.generate.config import GenerateConfig
from pipeline.store.files import MALFORMED, Folder
from pipeline.store.final import MANIFEST
from pipeline.training.cost import TrainingCost, cost_of

CARD = "card.json"
# Methods that choose by the judge's rewards. The others let it read what they return, at most.
_JUDGED = ("best_of_n", "beam", "mcts", "ggro", "mh", "nabla")


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model that an arm depends on, and what training it cost; None: not known."""

    role: Literal["policy", "judge", "guide"]
    name: str
    revision: str | None
    cost: TrainingCost | None


def trained_models(run_dir: str, config: GenerateConfig, base: LM) -> list[TrainedModel]:
    """The models of a finished run with this config. `base`: the LM whose training counts for no
    arm, as all have it."""
    reward, made = config.reward, _models(Folder(run_dir))
    guided = uses_guide(config.decoding)
    guide = _own_guide(reward) if guided else None
    is_policy = _location(config.lm.path, "lm") != _location(base.path, "lm")
    found = []
    if is_policy:
        found.append(_model("policy", made.get("generation"), config.lm.path, "lm"))
    chooses = config.decoding.method in _JUDGED or guided
    if reward.judge is not None and (chooses or is_policy):
        found.append(_model("judge", made.get("judge"), reward.judge, "judge"))
    if guide is not None:
        found.append(_model("guide", made.get("guide"), guide, "guide"))
    return found


def _own_guide(reward: Reward) -> str | None:
    """The guide, where it is another model than the judge. `embedded` names one in each role."""
    if reward.guide is None or reward.judge is None:
        return reward.guide
    same = _location(reward.guide, "guide") == _location(reward.judge, "judge")
    return None if same and reward.guide_revision == reward.judge_revision else reward.guide


def uses_guide(decoding: Decoding) -> bool:
    """Whether a method asks the guide, in rollouts or between them."""
    if decoding.rollout.beta is not None or decoding.method == "ggro":
        return True
    return decoding.method == "nabla" and decoding.nabla.uses_guide


def _model(
    role: Literal["policy", "judge", "guide"], made: Any, path: str, shipped: Role
) -> TrainedModel:
    """`made`: name and revision, as the run's manifest has them."""
    named = made if isinstance(made, Mapping) else {}
    return TrainedModel(
        role=role,
        name=str(named.get("name") or Path(path).name),
        revision=named.get("revision"),
        cost=_cost(_location(path, shipped)),
    )


def _location(path: str, role: Role) -> str:
    # Without making a model that is made where it is asked for.
    return path if path == "smollm2" else model_location(path, role)


def _cost(location: str) -> TrainingCost | None:
    try:
        card = json.loads((Path(location) / CARD).read_bytes())
    except (OSError, *MALFORMED):
        return None
    return cost_of(card) if isinstance(card, Mapping) else None


def _models(folder: Folder) -> Mapping[str, Any]:
    """The models in the manifest of a run; nothing where it tells none."""
    try:
        found = json.loads(folder.read(MANIFEST)).get("models")
    except (OSError, AttributeError, *MALFORMED):
        return {}
    return found if isinstance(found, Mapping) else {}
