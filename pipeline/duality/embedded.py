"""Part embedded: an LM, a judge and a guide, RL policies trained from the LM, and samplers.

Nothing can be enumerated. The frontier is drawn where importance sampling can carry it; RL
policies are measured by their own log-probabilities; samplers without a density get a
reward, an interval for their KL, and accuracy, because a reward can be hacked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from nabla_core import (
    DTO,
    MH,
    Engine,
    NablaConfig,
    Prompt,
    Ranked,
    Sampling,
    Select,
    drive,
    load_engines,
    mh,
    nabla,
)
from nabla_core.dto import learning_rate
from nabla_core.embedded import task
from nabla_core.engines.base import Engines
from nabla_core.requests import Flow
from nabla_core.types import Trace
from pipeline.duality.estimators import (
    LEAST_ESS,
    Bounds,
    Estimate,
    Optimum,
    answer_kl,
    best_of,
    mean_over_prompts,
    optimum,
)
from pipeline.duality.findings import Book
from pipeline.duality.lm_policies import MAX_TOKENS, Laboratory, Rloo, Sample, padded, rloo
from pipeline.duality.plane import LADDER, Plane
from pipeline.duality.policies import best_of_n_bound

OWN = Sampling(temperature=1.0)
ENGINE_BATCH = 256
AGREES, SETTLED = 4.0, 3.0


@dataclass(frozen=True)
class Embedded:
    """`prompts` test prompts a seed; `reference` samples of the LM to each; `draws` responses of
    searches; `chains` of method mh, `steps` each. RL policies are trained once, with the first
    of the seeds, and measured on every seed's prompts."""

    betas: tuple[float, ...] = (4.0, 2.0, 1.0)
    prompts: int = 12
    reference: int = 4096
    draws: int = 32
    chains: int = 64
    steps: int = 40
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
    _density(plane, "reference LM", reference)
    _reach(plane, laboratory, reference)
    for beta, weights in zip(settings.betas, trained, strict=True):
        policy = laboratory.policy(weights)
        arm = f"RLOO, {settings.rloo.steps} steps, beta {beta:g}"
        _density(plane, arm, laboratory.sample(policy, 512, generator))
    for n in (4, 16, 64):
        _best_of_n(plane, reference, n)
    engines = load_engines("embedded", engine=Engine(max_batch=ENGINE_BATCH))
    for name, config in searches().items():
        draws = 1 if config.rollout.temperature == 0 else settings.draws
        method = partial(nabla, config=config, seed=seed, max_tokens=MAX_TOKENS)
        sample, _ = _drawn(laboratory, engines, method, draws)
        _sampler(plane, name, reference, sample)
    _exact_sampler(plane, laboratory, engines, settings, reference)
    return book


def searches() -> dict[str, NablaConfig]:
    """Nabla decoding: as configs/embedded.yaml has it; from sampled rollouts, so that it
    starts from the reference law; its null arm; and the published settings."""
    greedy = Sampling(temperature=0)
    ranked = NablaConfig(proposals="ranked", ranked=Ranked(eta=0.25, stop=-2.0), rollout=greedy)
    published = NablaConfig(rollout=OWN, select=Select(0.97), dto=DTO())
    return {
        "nabla, ranked, greedy rollouts": ranked,
        "nabla, ranked, sampled rollouts": replace(ranked, rollout=OWN),
        "null arm: ranked without gradient, sampled": replace(
            ranked, rollout=OWN, ranked=Ranked(eta=0.0, stop=-2.0)
        ),
        "nabla, published settings, sampled rollouts": published,
    }


def _numbers(sample: Sample) -> dict[str, Estimate]:
    columns = {
        "E[r]": sample.reward,
        "accuracy": sample.right.double(),
        "every step right": sample.traces.double(),
        "E[log p_ref]": sample.log_ref,
    }
    return {check: mean_over_prompts(values) for check, values in columns.items()}


def _density(plane: Plane, arm: str, sample: Sample) -> None:
    """An arm that knows its own log-probabilities."""
    assert sample.log_q is not None
    divergence = mean_over_prompts(sample.log_q - sample.log_ref)
    plane.density(arm, divergence, _numbers(sample), gap=arm.startswith("RLOO"))


def _sampler(plane: Plane, arm: str, reference: Sample, sample: Sample) -> None:
    """An arm without a density."""
    if sample.answer.size(1) > 1:
        answers = answer_kl(sample.answer, reference.answer)
        plane.book.report("KL of the answers", arm, plane.seed, answers.value)
    plane.sampler(arm, sample.reward, sample.log_ref, _numbers(sample))


def _best_of_n(plane: Plane, reference: Sample, n: int) -> None:
    """Best of n of the reference, from the reference samples; KL at most log n - (n-1)/n."""

    def expected(values: Tensor) -> Estimate:
        halves = [
            best_of(values[:, part], reference.reward[:, part], n).mean()
            for part in torch.arange(values.size(1)).chunk(8)
        ]
        spread = torch.stack(halves).std() / math.sqrt(8)
        return Estimate(float(best_of(values, reference.reward, n).mean()), float(spread))

    columns = {
        "E[r]": reference.reward,
        "accuracy": reference.right,
        "every step right": reference.traces,
        "E[log p_ref]": reference.log_ref,
    }
    numbers = {check: expected(values.double()) for check, values in columns.items()}
    low = plane.variational_bound(numbers["E[r]"])
    plane.between(f"best of {n}", Bounds(low, best_of_n_bound(n)), numbers)


def _reach(plane: Plane, laboratory: Laboratory, reference: Sample) -> None:
    """How many tokens DTO at the published settings can change at all: Adam moves a logit by
    about the sum of its rates, so two logits must be within twice that."""
    config = DTO()
    reach = 2 * float(learning_rate(config, torch.arange(config.max_iters)).sum())
    margins = laboratory.margins(reference.responses[:, :64])
    share = float((margins <= reach).double().mean())
    plane.book.report("share of tokens within reach", "DTO published", plane.seed, share)


def _drawn(
    laboratory: Laboratory, engines: Engines, method: Callable[[Prompt], Flow], count: int
) -> tuple[Sample, list[list[Trace]]]:
    """`count` responses of a method of the product to every prompt, and their traces."""
    index = {p.id: i for i, p in enumerate(laboratory.prompts)}
    flows = (method(replace(p, sample=s)) for p in laboratory.prompts for s in range(count))
    found: dict[tuple[int, int], Trace] = {}
    for trace in drive(flows, engines, in_flight=3 * ENGINE_BATCH):
        found[index[trace.prompt_id], trace.sample] = trace
    traces = [[found[i, s] for s in range(count)] for i in range(len(index))]
    tokens = padded([trace.tokens for row in traces for trace in row])
    return laboratory.measured(tokens.reshape(len(index), count, MAX_TOKENS)), traces


def _exact_sampler(
    plane: Plane,
    laboratory: Laboratory,
    engines: Engines,
    settings: Embedded,
    reference: Sample,
) -> None:
    """`decoding.method: mh` against importance sampling, on the prompts where that may speak.

    A positive check where the chains have settled, by a rule that does not look at importance
    sampling: E[r] after half of the steps and after all, of the same chains, are within
    `SETTLED` standard errors. At the largest beta they must have.
    """
    check = "E[r] against importance sampling, standard errors apart"
    first, wrong = settings.betas[:2]
    samples: dict[float, Sample] = {}
    for beta in settings.betas:
        method = partial(
            mh, config=MH(beta=beta, steps=settings.steps), seed=plane.seed, max_tokens=MAX_TOKENS
        )
        samples[beta], traces = _drawn(laboratory, engines, method, settings.chains)
        arm = f"method mh, beta {beta:g}"
        _sampler(plane, arm, reference, samples[beta])
        found = plane.optima[beta]
        usable = int(found.estimable.sum())
        plane.book.report("prompts compared with importance sampling", arm, plane.seed, usable)
        drift = drifted(traces)
        name = "E[r] after half of the steps and after all, standard errors apart"
        enter = plane.book.positive if beta == first else plane.book.report
        enter(name, arm, plane.seed, drift, SETTLED)
        if usable * 2 < len(found.ess):
            least = float(found.ess.min())
            plane.book.not_estimable(check, arm, plane.seed, least, LEAST_ESS)
            continue
        judged = beta == first or drift <= SETTLED
        enter = plane.book.positive if judged else plane.book.report
        enter(check, arm, plane.seed, apart(samples[beta].reward, found), AGREES)
    truth = plane.optima[first]
    controls = {
        f"method mh, beta {wrong:g} taken for {first:g}": samples[wrong].reward,
        f"reference LM taken for pi*, beta {first:g}": reference.reward[:, : settings.chains],
    }
    for arm, rewards in controls.items():
        plane.book.control(check, arm, plane.seed, apart(rewards, truth), AGREES)


def drifted(traces: list[list[Trace]]) -> float:
    """How far E[r] of chains moved in the second half of their steps, in standard errors of
    the paired difference, prompt by prompt."""
    moved = torch.tensor([[second_half(t) for t in row] for row in traces], dtype=torch.float64)
    change = mean_over_prompts(moved)
    return abs(change.value) / change.error if change.error else 0.0


def second_half(chain: Trace) -> float:
    """The reward of a chain's end minus that after half of its steps."""
    path = [r.reward_after if r.accepted else r.reward_before for r in chain.revisions]
    return path[-1] - path[(len(path) - 1) // 2]


def apart(rewards: Tensor, found: Optimum) -> float:
    """|E_q[r] - E*[r]| over the estimable prompts, in standard errors of the difference.
    rewards `[P, S]`."""
    here = found.estimable
    rewards = rewards[here]
    difference = rewards.mean(1) - found.reward[here]
    variance = rewards.var(1) / rewards.size(1) + found.variance[here]
    return abs(float(difference.sum() / variance.sum().sqrt()))
