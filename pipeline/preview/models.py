"""LM, judge and guide of a run: can they be loaded, do they fit each other and the method?

torch and transformers take seconds to import. They are imported inside the functions: the commands
import this room with their configs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nabla_core.config import NablaConfig, Sampling
from nabla_core.embedded.weights import model_location
from nabla_core.errors import ModelError
from nabla_core.model_config import LM, GuideKind, Reward
from pipeline.run.models import is_scripted

if TYPE_CHECKING:
    from nabla_core.models.outline import Outline
    from nabla_core.models.value_head import ValueHeadConfig

# The digest of a folder reads its weights. Up to so many bytes that takes a second or two.
QUICK_BYTES = 2 << 30


@dataclass(frozen=True, eq=False, kw_only=True)
class Models:
    """The models of a run. `judge` is None where nothing is judged. `guide` is the judge where that
    is its own guide, and where the guide is a network on the LM, which reads no text of its own:
    `value_head`, else None. `warnings` are sentences about what a run would put up with."""

    lm: Outline
    judge: Outline | None
    guide: Outline | None
    kind: GuideKind
    warnings: list[str]
    value_head: ValueHeadConfig | None = None

    @property
    def all(self) -> list[Outline]:
        """Those that there are, by role; one with two roles twice."""
        return [model for model in (self.lm, self.judge, self.guide) if model is not None]

    @property
    def parameters(self) -> int:
        """Of all models that an actor loads."""
        different = {id(model): model for model in self.all}
        small = self.value_head.parameters if self.value_head else 0
        return sum(model.parameters for model in different.values()) + small


def inspect(
    lm: LM,
    reward: Reward,
    search: NablaConfig | None = None,
    rollout: Sampling | None = None,
) -> Models | None:
    """The models of a run; None for a scripted LM, which has none. `search` is the loop that the
    guide must serve, and `rollout` the sampling; None where there is none.

    Raises ModelError and VocabularyError where they cannot be loaded or do not fit.
    """
    if is_scripted(lm):
        return None
    from nabla_core.engines.loading import kind_of  # noqa: PLC0415 - see the module
    from nabla_core.guides.decoding import refuse_decoding  # noqa: PLC0415
    from nabla_core.guides.predicted import require_no_gradient  # noqa: PLC0415
    from nabla_core.models.outline import outline  # noqa: PLC0415

    language = outline(model_location(lm.path, "lm"), lm.revision, "lm")
    judge, warnings = None, []
    if reward.judge is not None:
        judge = outline(model_location(reward.judge, "judge"), reward.judge_revision, "reward")
        warnings = check_fit(language, judge, reward, "judge")
    if reward.guide is None:
        return Models(lm=language, judge=judge, guide=judge, kind="gradient", warnings=warnings)
    path = model_location(reward.guide, "guide")
    kind = kind_of(path, reward.guide_revision)
    if kind != "gradient" and search is not None:
        require_no_gradient(path, search)
    if kind == "gradient" and rollout is not None:
        refuse_decoding(path, rollout)
    if kind == "value_head":
        head = check_value_head(path, reward.guide_revision, language.source)
        warnings += card_warnings(path, {"judge": judge.source} if judge else {})
        return Models(
            lm=language, judge=judge, guide=judge, kind=kind, warnings=warnings, value_head=head
        )
    guide = outline(path, reward.guide_revision, "head" if kind == "head" else "reward")
    warnings += check_fit(language, guide, reward, "guide")
    known = {"lm": language.source} | ({"judge": judge.source} if judge else {})
    warnings += card_warnings(path, known)
    return Models(lm=language, judge=judge, guide=guide, kind=kind, warnings=warnings)


def check_guide(lm: LM, reward: Reward) -> None:
    """Raises ModelError where the guide of a run is a value head of another LM than the run's. A
    guide that is no folder here is not looked at: the workers do."""
    if reward.guide is None or is_scripted(lm):
        return
    from nabla_core.engines.loading import kind_of  # noqa: PLC0415 - see the module

    guide = model_location(reward.guide, "guide")
    if Path(guide).is_dir() and kind_of(guide, reward.guide_revision) == "value_head":
        check_value_head(guide, reward.guide_revision, model_location(lm.path, "lm"))


def check_value_head(path: str, revision: str | None, lm: str) -> ValueHeadConfig:
    """The config of the value head at `path`. Raises ModelError where it belongs to another LM than
    the one at `lm`; the digest of a large LM is not computed."""
    from nabla_core.guides.value_head import require_lm  # noqa: PLC0415 - see the module
    from nabla_core.models.identity import identify  # noqa: PLC0415
    from nabla_core.models.pretrained import load_config  # noqa: PLC0415
    from nabla_core.models.value_head import ValueHeadConfig  # noqa: PLC0415

    config = load_config(path, revision)
    if not isinstance(config, ValueHeadConfig):
        raise ModelError(f"{path} is no value head: its model type is {config.model_type}")
    if quick(lm):
        require_lm(config, path, identify(lm, None), lm)
    return config


def check_fit(lm: Outline, other: Outline, reward: Reward, role: str) -> list[str]:
    """A sentence where a reward model does not know all of the LM's tokens. Raises VocabularyError
    where it knows too few."""
    from nabla_core.models.vocab import map_vocabulary  # noqa: PLC0415

    coverage = map_vocabulary(
        lm.tokenizer,
        other.tokenizer,
        size=lm.outputs,
        rm_size=other.table,
        names=(lm.source, other.source),
        min_coverage=reward.min_coverage,
    ).coverage
    if coverage == 1:
        return []
    return [f"the {role} knows {coverage:.2%} of the LM's tokens; the others are never proposed"]


def card_warnings(guide: str, models: dict[str, str]) -> list[str]:
    """A sentence for each model (folder by role) that is not the one a guide was trained with, as
    its card tells. Raises ModelError where the card is damaged."""
    from nabla_core.models.identity import identify  # noqa: PLC0415 - see the module

    card = read_card(guide)
    warnings = []
    for role, path in models.items():
        trained = card.get(role)
        if not isinstance(trained, dict) or not quick(path):
            continue
        found = identify(path, None)
        # The shipped models were made for one another.
        shipped = found.name.startswith("embedded:") and found.name == trained.get("name")
        if found.revision != trained.get("revision") and not shipped:
            name = f"{trained.get('name')} {trained.get('revision')}"
            warnings.append(
                f"{guide} was trained for the {role} {name}, and this run has {path} "
                f"{found.revision}: its predictions are about another model"
            )
    return warnings


def read_card(guide: str) -> dict[str, Any]:
    """The card of a guide's folder; empty where it has none. Raises ModelError where it is
    damaged."""
    file = Path(guide) / "card.json"
    if not file.is_file():
        return {}
    try:
        card = json.loads(file.read_bytes())
        return dict(card)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{file}: damaged: {error}") from error


def quick(path: str) -> bool:
    """Whether a model is a folder here that is small enough to be read for its digest."""
    folder = Path(path)
    if not folder.is_dir():
        return False
    return sum(f.stat().st_size for f in folder.iterdir() if f.is_file()) <= QUICK_BYTES
