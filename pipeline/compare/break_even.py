"""After how many prompts a training pays: when its FLOPs, and those of the arm's answers, are fewer
than those of answers that are as good and need no such training.

The rival of an arm is the cheapest untrained one that reaches at least its accuracy (its reward,
where nothing is graded): a method of the base LM, alone or with the judge, also with fewer samples
or proposals (`curves`, `frontier`). Accuracies are compared as they were measured, without their
intervals. pass@k is no rival: nothing tells which of k responses is the right one. Against a rival
without the judge the judge's training counts too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pipeline.compare.curves import Curve
from pipeline.compare.training import TrainedModel
from pipeline.training.cost import total

# - pays: after `prompts` prompts.
# - never: the rival costs no more for each prompt.
# - unmatched: no untrained arm is as good; the rival is the best of them, which costs as much after
#   `prompts` prompts (None: it is cheaper, or a card does not tell).
# - unknown: a card does not tell what its training cost.
State = Literal["pays", "never", "unmatched", "unknown"]
# Kinds of curves that are methods, and whether they ask the judge. None: those of the arm.
_METHODS: Mapping[str, bool | None] = {
    "majority of k": False,
    "best of k": True,
    "at most k proposals": None,
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An arm, or an arm with fewer samples: `score` is its accuracy or reward, `flops` those of a
    prompt. `models`: what it depends on."""

    arm: str
    name: str
    score: float
    flops: float
    models: Sequence[TrainedModel]

    @property
    def untrained(self) -> bool:
        """Whether it needs no more than the base LM and a judge."""
        return all(model.role == "judge" for model in self.models)


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """`rival`: its name, score and FLOPs a prompt. `training`: FLOPs of the models that the rival
    does not need, None where a card does not tell. `prompts`: after which the training has paid."""

    state: State
    rival: str
    rival_score: float
    rival_flops: float
    training: float | None
    prompts: int | None


def candidates(
    arms: Mapping[str, tuple[float, float]],
    curves: Sequence[Curve],
    models: Mapping[str, Sequence[TrainedModel]],
    *,
    graded: bool,
) -> list[Candidate]:
    """All arms by name with (score, FLOPs), and the points of their curves."""
    found = [
        Candidate(arm=name, name=name, score=score, flops=flops, models=models[name])
        for name, (score, flops) in arms.items()
        if name in models
    ]
    of_curves = (point for curve in curves for point in _points(curve, models, graded=graded))
    return [*found, *of_curves]


def _points(
    curve: Curve, models: Mapping[str, Sequence[TrainedModel]], *, graded: bool
) -> Iterator[Candidate]:
    values = curve.accuracy if graded else curve.reward
    if values is None or curve.kind not in _METHODS or curve.arm not in models:
        return
    own = models[curve.arm]
    judged = _METHODS[curve.kind]
    if judged is False:
        own = [model for model in own if model.role != "judge"]
    elif judged and not any(model.role == "judge" for model in own):
        own = [*own, *_judge_of(models)]
    for k, score, flops in zip(curve.samples, values, curve.costs["flops"], strict=True):
        name = f"{curve.arm}, {curve.kind.replace(' k', f' {k}')}"
        yield Candidate(arm=curve.arm, name=name, score=score, flops=flops, models=own)


def _judge_of(models: Mapping[str, Sequence[TrainedModel]]) -> Iterator[TrainedModel]:
    """The judge that an arm names which chooses by it: best of k chooses by the same."""
    judges = (model for own in models.values() for model in own if model.role == "judge")
    yield from islice(judges, 1)


def break_even(arm: Candidate, others: Sequence[Candidate]) -> BreakEven | None:
    """None for an arm without a trained model, and where there is no rival."""
    rivals = [o for o in others if o.untrained and o.arm != arm.arm and _needed(arm, o)]
    if not rivals:
        return None
    as_good = [rival for rival in rivals if rival.score >= arm.score]
    if as_good:
        rival = min(as_good, key=lambda r: r.flops)
    else:
        rival = max(rivals, key=lambda r: (r.score, -r.flops))
    training = _training(_needed(arm, rival))
    saved = rival.flops - arm.flops
    prompts = math.ceil(training / saved) if training is not None and saved > 0 else None
    state: State = "unknown"
    if not as_good:
        state = "unmatched"
    elif saved <= 0:
        state = "never"
    elif training is not None:
        state = "pays"
    return BreakEven(
        state=state,
        rival=rival.name,
        rival_score=rival.score,
        rival_flops=rival.flops,
        training=training,
        prompts=prompts,
    )


def _needed(arm: Candidate, rival: Candidate) -> list[TrainedModel]:
    """The models that the arm depends on and the rival does not."""
    theirs = {(model.role, model.revision) for model in rival.models}
    return [model for model in arm.models if (model.role, model.revision) not in theirs]


def _training(models: Sequence[TrainedModel]) -> float | None:
    return total(None if model.cost is None else model.cost.flops for model in models)
