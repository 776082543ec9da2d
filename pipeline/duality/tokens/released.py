"""The released algorithm at its settings and at others: DTO as a map of whole responses, and
nabla decoding. Where their exact laws are relative to the frontier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nabla_core import DTO, NablaConfig, Objective, Sampling
from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.tokens.dto_law import Descent, decoding_law, joint_descent, push_forward
from pipeline.duality.tokens.enumerable import STATES, EnumeratedModels
from pipeline.duality.tokens.metrics import describe

# The LM's own law: no temperature, no truncation.
UNFILTERED = Sampling(temperature=1.0)
NULL = "null arm (learning rate 0)"
PUBLISHED = "published (lr .01, 20 steps)"
LONGER = "lr .1, 50 steps, lambda 4"
MIRROR = "mirror, beta 1, resample at 1"
# The paper's weight of the log-likelihood beside a reward of weight 1.
PUBLISHED_BETA = 1e-3


@dataclass(frozen=True)
class ReleasedSetting:
    """One setting of nabla decoding; `beta` is the KL strength that its objective implies."""

    name: str
    config: NablaConfig
    beta: float


def released() -> Iterator[ReleasedSetting]:
    """The settings of nabla decoding that are enumerated."""
    base = NablaConfig(rollout=UNFILTERED)
    longer = DTO(learning_rate=0.1, max_iters=50)
    yield ReleasedSetting(NULL, replace(base, dto=DTO(learning_rate=0)), 1.0)
    yield ReleasedSetting(PUBLISHED, base, PUBLISHED_BETA)
    yield ReleasedSetting("lr .1, 50 steps, lambda 1000", replace(base, dto=longer), PUBLISHED_BETA)
    # lambda = 1 / beta is the weight of the reward beside a log-likelihood of weight 1.
    for weight in (1.0, 4.0):
        objective = Objective(nll_coeff=1.0, reward_coeff=weight)
        config = replace(base, dto=longer, objective=objective)
        yield ReleasedSetting(f"lr .1, 50 steps, lambda {weight:g}", config, 1 / weight)
    # A row of the mirror step is the optimum of the linearised problem at this beta.
    mirror = replace(
        base,
        dto=DTO(optimizer="mirror", beta=1.0),
        objective=Objective(nll_coeff=0.0),
        resample=UNFILTERED,
    )
    yield ReleasedSetting(MIRROR, mirror, 1.0)


@dataclass(frozen=True)
class JointDescent:
    """One setting of DTO on whole responses; `beta` is the KL strength it implies."""

    dto: DTO
    reward_coeff: float
    nll_coeff: float
    beta: float


def joint_descents() -> dict[str, JointDescent]:
    """The settings of DTO that are enumerated, by arm."""
    longer = DTO(learning_rate=0.1, max_iters=200)
    mirror = DTO(optimizer="mirror", beta=1.0)
    return {
        f"DTO {PUBLISHED}": JointDescent(DTO(), 1.0, PUBLISHED_BETA, PUBLISHED_BETA),
        "DTO lr .1, 200 steps, lambda 1": JointDescent(longer, 1.0, 1.0, 1.0),
        "DTO lr .1, 200 steps, lambda 2": JointDescent(longer, 2.0, 1.0, 0.5),
        "DTO mirror, beta 1": JointDescent(mirror, 1.0, 0.0, 1.0),
    }


def released_laws(results: PartResults, models: EnumeratedModels, seed: int) -> None:
    """Report the law of every setting, and for DTO with Adam which tokens it can change."""
    problem = models.problem
    for arm, setting in joint_descents().items():
        descent = joint_descent(models, setting.dto, setting.reward_coeff, setting.nll_coeff)
        law = push_forward(problem.reference, descent.destination)
        moved = descent.destination != torch.arange(STATES)
        share = float(problem.reference[moved].sum())
        results.report(names.RESPONSES_CHANGED, arm, seed, share)
        if setting.dto.optimizer == "adam":
            reach(results, models, arm, seed, descent)
        describe(results, problem, arm, seed, law, setting.beta)
    for decoding in released():
        law = decoding_law(models, decoding.config)
        describe(results, problem, f"nabla decoding, {decoding.name}", seed, law, decoding.beta)


def reach(
    results: PartResults, models: EnumeratedModels, arm: str, seed: int, descent: Descent
) -> None:
    """Which tokens Adam can change: those whose two best logits are near enough.

    Adam moves a logit by at most about the sum of its learning rates, however large the
    gradient. Two logits can move towards each other, so the argmax can change only where the
    margin is at most twice that.
    """
    # Mass of one token: responses have equally many tokens.
    mass = models.problem.reference[:, None] / descent.margin.size(1)

    def share(tokens: Tensor) -> float:
        return float((mass * tokens).sum())

    results.report(names.LARGEST_MOVE, arm, seed, descent.largest_move)
    results.report(names.MEDIAN_MARGIN, arm, seed, _weighted_median(descent.margin, mass))
    in_reach = descent.margin <= 2 * descent.largest_move
    results.report(names.IN_REACH, arm, seed, share(in_reach))
    results.report(names.TOKENS_CHANGED, arm, seed, share(descent.changed))
    changed_out_of_reach = share(descent.changed & ~in_reach)
    results.positive(names.OUT_OF_REACH, arm, seed, changed_out_of_reach, 0.0)


def _weighted_median(values: Tensor, mass: Tensor) -> float:
    order = values.flatten().argsort()
    cumulative = mass.expand_as(values).flatten()[order].cumsum(0)
    return float(values.flatten()[order][int((cumulative < 0.5).sum())])
