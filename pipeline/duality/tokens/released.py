"""The released dynamics at their settings and at others, placed in the plane: DTO as a map of
whole responses, and nabla decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from nabla_core import DTO, NablaConfig, Objective, Sampling
from pipeline.duality.findings import Book
from pipeline.duality.tokens.dto_law import Descent, decoding_law, joint_descent, push_forward
from pipeline.duality.tokens.enumerable import STATES, World
from pipeline.duality.tokens.placement import describe

OWN = Sampling(temperature=1.0)
NULL = "null arm (learning rate 0)"


def released(lambdas: tuple[float, ...] = (1.0, 4.0)) -> Iterator[tuple[str, NablaConfig, float]]:
    """Nabla decoding's settings: a name, the config, the beta its objective means."""
    base = NablaConfig(rollout=OWN)
    larger = DTO(learning_rate=0.1, max_iters=50)
    mirror = DTO(optimizer="mirror", beta=1.0)
    yield NULL, replace(base, dto=DTO(learning_rate=0)), 1.0
    yield "published (lr .01, 20 steps)", base, 1e-3
    yield "lr .1, 50 steps, lambda 1000", replace(base, dto=larger), 1e-3
    for weight in lambdas:
        objective = Objective(nll_coeff=1.0, reward_coeff=weight)
        config = replace(base, dto=larger, objective=objective)
        yield f"lr .1, 50 steps, lambda {weight:g}", config, 1 / weight
    # A row of the mirror step is the optimum of the linearised problem at this beta.
    reward_only = Objective(nll_coeff=0.0)
    yield (
        "mirror, beta 1, resample at 1",
        replace(base, dto=mirror, objective=reward_only, resample=OWN),
        1.0,
    )


def released_laws(book: Book, here: World, seed: int) -> None:
    """Where every setting falls; and, for the published descent, why it moves what it moves."""
    target = here.target
    descents = {
        "DTO published (lr .01, 20 steps)": (DTO(), 1.0, 1e-3, 1e-3),
        "DTO lr .1, 200 steps, lambda 1": (_long(), 1.0, 1.0, 1.0),
        "DTO lr .1, 200 steps, lambda 2": (_long(), 2.0, 1.0, 0.5),
        "DTO mirror, beta 1": (DTO(optimizer="mirror", beta=1.0), 1.0, 0.0, 1.0),
    }
    for arm, (config, reward, nll, beta) in descents.items():
        descent = joint_descent(here, config, reward, nll)
        law = push_forward(target.reference, descent.goes)
        moved = float(target.reference[descent.goes != torch.arange(STATES)].sum())
        book.report("share of responses changed", arm, seed, moved)
        if config.optimizer == "adam":
            reach(book, here, arm, seed, descent)
        describe(book, target, arm, seed, law, beta)
    for name, nabla_config, beta in released():
        law = decoding_law(here, nabla_config)
        describe(book, target, f"nabla decoding, {name}", seed, law, beta)


def reach(book: Book, here: World, arm: str, seed: int, descent: Descent) -> None:
    """Adam moves a logit by about the sum of its rates, however small the gradient. So the
    argmax can leave where two logits are within twice that, and nowhere else."""
    mass = here.target.reference[:, None] / descent.margin.size(1)

    def share(where: Tensor) -> float:
        return float((mass * where).sum())

    book.report("largest move of a logit", arm, seed, descent.travel)
    book.report("median margin of the best logit", arm, seed, _median(descent.margin, mass))
    near = descent.margin <= 2 * descent.travel
    book.report("share of tokens within reach", arm, seed, share(near))
    book.report("share of tokens changed", arm, seed, share(descent.changed))
    beyond = share(descent.changed & ~near)
    book.positive("share of tokens changed beyond reach", arm, seed, beyond, 0.0)


def _median(values: Tensor, mass: Tensor) -> float:
    order = values.flatten().argsort()
    upto = mass.expand_as(values).flatten()[order].cumsum(0)
    return float(values.flatten()[order][int((upto < 0.5).sum())])


def _long() -> DTO:
    return DTO(learning_rate=0.1, max_iters=200)
