"""Part embedded: an LM, a judge and a guide, RL policies trained from the LM, and samplers.

Nothing can be enumerated. The frontier is drawn where importance sampling can carry it; RL
policies are measured by their own log-probabilities; samplers without a density get a
reward, an interval for their KL, and accuracy, because a reward can be hacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from nabla_core import DTO, NablaConfig, Ranked, Runtime, Sampling, Select, load_engines, nabla
from nabla_core.embedded import task
from nabla_core.proposals.dto import learning_rate
from pipeline.duality.findings import Book
from pipeline.duality.language.agreement import exact_sampler
from pipeline.duality.language.arms import ENGINE_BATCH, best_of_n, density, drawn, sampler
from pipeline.duality.language.estimators import optimum
from pipeline.duality.language.plane import LADDER, Plane
from pipeline.duality.language.policies import MAX_TOKENS, Laboratory, Rloo, Sample, rloo

OWN = Sampling(temperature=1.0)


@dataclass(frozen=True)
class Embedded:
    """`prompts` test prompts a seed; `reference` samples of the LM to each; `draws` responses of
    searches; `chains` of method mh, `steps` each. RL policies are trained once, with the first
    of the seeds, and measured on every seed's prompts.

    40 steps of mh were too few even at beta 4: on the prompts of seed 4 E[r] rose from .10
    after 40 steps to .29 after 80 and .45 after 160, and stayed at .50 in the mean of steps
    160 to 320, where importance sampling says .49.
    """

    betas: tuple[float, ...] = (4.0, 2.0, 1.0)
    prompts: int = 10
    reference: int = 4096
    draws: int = 32
    chains: int = 32
    steps: int = 160
    rloo: Rloo = field(default_factory=Rloo)

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or min(self.betas) <= 0:
            raise ValueError(
                f"embedded.betas must be positive, two at least, got {list(self.betas)}"
            )


Weights = Mapping[str, Tensor]


def train(settings: Rloo, beta: float, seed: int) -> Weights:
    """The weights of an RL policy."""
    laboratory = Laboratory([])
    return rloo(laboratory.lm, laboratory.judge, beta, settings, seed=seed).state_dict()


def run(settings: Embedded, seed: int, trained: Sequence[Weights]) -> Book:
    """Every arm on the prompts of a seed; `trained` are RL policies, one a beta."""
    book = Book("embedded")
    laboratory = Laboratory(task.prompts(settings.prompts, seed=seed, split="test"))
    generator = torch.Generator().manual_seed(seed)
    reference = laboratory.sample(laboratory.lm, settings.reference, generator)
    betas = sorted({*LADDER, *settings.betas}, reverse=True)
    optima = {beta: optimum(reference.reward, beta) for beta in betas}
    plane = Plane(book, reference.reward, optima, seed)
    plane.frontier()
    density(plane, "reference LM", reference)
    _reach(plane, laboratory, reference)
    for beta, weights in zip(settings.betas, trained, strict=True):
        policy = laboratory.policy(weights)
        arm = f"RLOO, {settings.rloo.steps} steps, beta {beta:g}"
        density(plane, arm, laboratory.sample(policy, 512, generator))
    for n in (4, 16, 64):
        best_of_n(plane, reference, n)
    engines = load_engines("embedded", runtime=Runtime(max_batch=ENGINE_BATCH))
    for name, config in searches().items():
        draws = 1 if config.rollout.temperature == 0 else settings.draws
        method = partial(nabla, config=config, seed=seed, max_tokens=MAX_TOKENS)
        sample, _ = drawn(laboratory, engines, method, draws)
        sampler(plane, name, reference, sample)
    exact_sampler(
        plane,
        laboratory,
        engines,
        reference,
        settings.betas,
        chains=settings.chains,
        steps=settings.steps,
    )
    return book


def searches() -> dict[str, NablaConfig]:
    """Nabla decoding: with the settings of configs/embedded.yaml, and a guide that has a
    gradient; from sampled rollouts, so that it starts from the reference law; its null arm;
    and the published settings."""
    greedy = Sampling(temperature=0)
    ranked = NablaConfig(
        proposals="ranked",
        ranked=Ranked(beta=1.0, min_score=-3.0, reward_weight=2.0),
        max_rollouts=8,
        rollout=greedy,
    )
    published = NablaConfig(rollout=OWN, select=Select(0.97), dto=DTO())
    return {
        "nabla, ranked, greedy rollouts": ranked,
        "nabla, ranked, sampled rollouts": replace(ranked, rollout=OWN),
        "null arm: ranked without gradient, sampled": replace(
            ranked, rollout=OWN, ranked=replace(ranked.ranked, beta=None)
        ),
        "nabla, published settings, sampled rollouts": published,
    }


def _reach(plane: Plane, laboratory: Laboratory, reference: Sample) -> None:
    """How many tokens DTO at the published settings can change at all: Adam moves a logit by
    about the sum of its rates, so two logits must be within twice that."""
    config = DTO()
    reach = 2 * float(learning_rate(config, torch.arange(config.max_iters)).sum())
    margins = laboratory.margins(reference.responses[:, :64])
    share = float((margins <= reach).double().mean())
    plane.book.report("share of tokens within reach", "DTO published", plane.seed, share)
