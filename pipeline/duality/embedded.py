"""Part embedded: an LM, a judge and a guide, RL policies trained from the LM, and samplers.

Nothing can be enumerated. The frontier is drawn where importance sampling can carry it; RL
policies are measured by their own log-probabilities; samplers without a density get a
reward, an interval for their KL, and accuracy, because a reward can be hacked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
from nabla_core.embedded import task
from nabla_core.engines.base import Engines
from nabla_core.requests import Flow
from pipeline.duality.estimators import (
    LEAST_ESS,
    Estimate,
    Optimum,
    answer_kl,
    best_of,
    kl_bounds,
    mean_over_prompts,
    optimum,
)
from pipeline.duality.findings import Book
from pipeline.duality.lm_policies import MAX_TOKENS, Laboratory, Rloo, Sample, padded, rloo
from pipeline.duality.policies import best_of_n_bound

OWN = Sampling(temperature=1.0)
ENGINE_BATCH = 256
AGREES = 4.0
# Betas that bound the KL of samplers from below, beside those asked for.
LADDER = (16.0, 8.0, 6.0, 4.0, 3.0)


@dataclass(frozen=True)
class Embedded:
    """`prompts` test prompts; `reference` samples of the LM to each; `draws` responses of
    every other arm; `steps` of method mh."""

    betas: tuple[float, ...] = (4.0, 2.0, 1.0)
    prompts: int = 16
    reference: int = 4096
    draws: int = 32
    steps: int = 32
    rloo: Rloo = field(default_factory=Rloo)

    def __post_init__(self) -> None:
        if not self.betas or min(self.betas) <= 0:
            raise ValueError(f"embedded.betas must be positive, got {list(self.betas)}")


def run(settings: Embedded, seed: int) -> Book:
    """Every arm on the same prompts."""
    book = Book("embedded")
    laboratory = Laboratory(task.prompts(settings.prompts, seed=seed, split="test"))
    generator = torch.Generator().manual_seed(seed)
    reference = laboratory.sample(laboratory.lm, settings.reference, generator)
    betas = sorted({*LADDER, *settings.betas}, reverse=True)
    optima = {beta: optimum(reference.reward, beta) for beta in betas}
    plane = _Plane(book, reference, list(optima.values()), seed)
    _frontier(book, optima, seed)
    _density(plane, "reference LM", reference)
    for beta in settings.betas:
        policy = rloo(laboratory.lm, laboratory.judge, beta, settings.rloo, seed=seed)
        _density(plane, f"RLOO, beta {beta:g}", laboratory.sample(policy, 512, generator))
    for n in (4, 16, 64):
        _best_of_n(plane, n)
    engines = load_engines("embedded", engine=Engine(max_batch=ENGINE_BATCH))
    for name, config in searches().items():
        draws = 1 if config.rollout.temperature == 0 else settings.draws
        method = partial(nabla, config=config, seed=seed, max_tokens=MAX_TOKENS)
        plane.sampler(name, _drawn(laboratory, engines, method, draws))
    _exact_sampler(plane, laboratory, engines, settings, optima)
    return book


def searches() -> dict[str, NablaConfig]:
    """Nabla decoding: as configs/embedded.yaml has it; from sampled rollouts, so that it
    starts from the reference law; its null arm; and the published settings."""
    greedy = Sampling(temperature=0)
    ranked = NablaConfig(
        proposals="ranked", ranked=Ranked(eta=0.25, stop=-2.0), rollout=greedy
    )
    published = NablaConfig(rollout=OWN, select=Select(0.97), dto=DTO())
    return {
        "nabla, ranked, greedy rollouts": ranked,
        "nabla, ranked, sampled rollouts": replace(ranked, rollout=OWN),
        "null arm: ranked without gradient, sampled": replace(
            ranked, rollout=OWN, ranked=Ranked(eta=0.0, stop=-2.0)
        ),
        "nabla, published settings, sampled rollouts": published,
    }


@dataclass(eq=False)
class _Plane:
    """Enters arms into the book and into the reward-KL plane."""

    book: Book
    reference: Sample
    optima: list[Optimum]
    seed: int

    def sampler(self, arm: str, sample: Sample) -> None:
        """An arm without a density."""
        bounds = kl_bounds(sample.reward, sample.log_ref, self.reference.reward, self.optima)
        self.book.report("KL to the reference, at least", arm, self.seed, bounds.low)
        self.book.report("KL to the reference, at most", arm, self.seed, bounds.high)
        if sample.answer.size(1) > 1:
            answers = answer_kl(sample.answer, self.reference.answer)
            self.book.report("KL of the answers", arm, self.seed, answers.value)
        self.point(arm, sample, (bounds.low, bounds.high))

    def point(self, arm: str, sample: Sample, divergence: tuple[float, float]) -> None:
        reward = mean_over_prompts(sample.reward)
        right = mean_over_prompts(sample.right.double())
        traces = mean_over_prompts(sample.traces.double())
        self.enter(arm, reward, right, traces, mean_over_prompts(sample.log_ref), divergence)

    def enter(
        self,
        arm: str,
        reward: Estimate,
        right: Estimate,
        traces: Estimate,
        log_ref: Estimate,
        divergence: tuple[float, float],
    ) -> None:
        numbers = {
            "E[r]": reward,
            "E[log p_ref]": log_ref,
            "accuracy": right,
            "every step right": traces,
        }
        for check, estimate in numbers.items():
            self.book.report(check, arm, self.seed, estimate.value)
            self.book.report(f"{check}, half of the 95 % interval", arm, self.seed, estimate.half)
        self.book.figures.setdefault("arms", {})[arm] = (divergence, reward, right, traces)


def _frontier(book: Book, optima: dict[float, Optimum], seed: int) -> None:
    points = []
    for beta, found in optima.items():
        arm = f"pi*, beta {beta:g}"
        share = float(found.estimable.double().mean())
        book.report("share of prompts where pi* is estimable", arm, seed, share)
        if not found.estimable.all():
            least = float(found.ess.min())
            book.not_estimable("frontier point (value: smallest ESS)", arm, seed, least, LEAST_ESS)
            continue
        divergence, reward = found.point()
        book.report("KL to the reference", arm, seed, divergence.value)
        book.report("E[r]", arm, seed, reward.value)
        book.report("E[r], half of the 95 % interval", arm, seed, reward.half)
        points.append((beta, divergence, reward))
    book.figures["frontier"] = points


def _density(plane: _Plane, arm: str, sample: Sample) -> None:
    """An arm that knows its own log-probabilities."""
    assert sample.log_q is not None
    divergence = mean_over_prompts(sample.log_q - sample.log_ref)
    plane.book.report("KL to the reference", arm, plane.seed, divergence.value)
    half = "KL to the reference, half of the 95 % interval"
    plane.book.report(half, arm, plane.seed, divergence.half)
    low, high = divergence.value - divergence.half, divergence.value + divergence.half
    plane.point(arm, sample, (low, high))
    if arm.startswith("RLOO"):
        _gap(plane, arm, divergence, mean_over_prompts(sample.reward))


def _gap(plane: _Plane, arm: str, divergence: Estimate, reward: Estimate) -> None:
    """Frontier E[r] at a policy's KL minus its E[r], between frontier points on both sides."""
    points = sorted(
        (d.value, r.value) for _, d, r in plane.book.figures["frontier"]
    )
    for (left, low), (right, high) in zip(points, points[1:], strict=False):
        if left <= divergence.value <= right:
            share = (divergence.value - left) / (right - left)
            gap = low + share * (high - low) - reward.value
            plane.book.report("gap to the frontier", arm, plane.seed, gap)
            return
    least = float(min(o.ess.min() for o in plane.optima))
    plane.book.not_estimable(
        "gap to the frontier (value: smallest ESS)", arm, plane.seed, least, LEAST_ESS
    )


def _best_of_n(plane: _Plane, n: int) -> None:
    """Best of n of the reference, from the reference samples; KL at most log n - (n-1)/n."""
    reference = plane.reference

    def expected(values: Tensor) -> Estimate:
        halves = [
            best_of(values[:, part], reference.reward[:, part], n).mean()
            for part in torch.arange(values.size(1)).chunk(8)
        ]
        spread = torch.stack(halves).std() / math.sqrt(8)
        return Estimate(float(best_of(values, reference.reward, n).mean()), float(spread))

    numbers = [
        expected(values.double())
        for values in (reference.reward, reference.right, reference.traces, reference.log_ref)
    ]
    bound = best_of_n_bound(n)
    plane.book.report("KL to the reference, at most", f"best of {n}", plane.seed, bound)
    optima = [o for o in plane.optima if o.estimable.all()]
    low = max(
        [0.0]
        + [(numbers[0].value - numbers[0].half) / o.beta - float(o.log_z.mean()) for o in optima]
    )
    plane.book.report("KL to the reference, at least", f"best of {n}", plane.seed, low)
    plane.enter(f"best of {n}", *numbers, (low, bound))


def _drawn(
    laboratory: Laboratory, engines: Engines, method: Callable[[Prompt], Flow], count: int
) -> Sample:
    """`count` responses of a method of the product to every prompt."""
    index = {p.id: i for i, p in enumerate(laboratory.prompts)}
    flows = (method(replace(p, sample=s)) for p in laboratory.prompts for s in range(count))
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for trace in drive(flows, engines, in_flight=3 * ENGINE_BATCH):
        found[index[trace.prompt_id], trace.sample] = trace.tokens
    ordered = [found[i, s] for i in range(len(index)) for s in range(count)]
    return laboratory.measured(padded(ordered).reshape(len(index), count, MAX_TOKENS))


def _exact_sampler(
    plane: _Plane,
    laboratory: Laboratory,
    engines: Engines,
    settings: Embedded,
    optima: dict[float, Optimum],
) -> None:
    """`decoding.method: mh` against importance sampling, on the prompts where that may speak."""
    samples = {}
    for beta in settings.betas:
        method = partial(
            mh, config=MH(beta=beta, steps=settings.steps), seed=plane.seed, max_tokens=MAX_TOKENS
        )
        samples[beta] = _drawn(laboratory, engines, method, settings.draws)
        plane.sampler(f"method mh, beta {beta:g}", samples[beta])
    first, wrong = settings.betas[0], settings.betas[-1]
    for beta, sample in samples.items():
        arm = f"method mh, beta {beta:g}"
        found = optima[beta]
        usable = int(found.estimable.sum())
        plane.book.report("prompts compared with importance sampling", arm, plane.seed, usable)
        check = "E[r] against importance sampling, standard errors apart"
        if usable * 2 < len(found.ess):
            least = float(found.ess.min())
            plane.book.not_estimable(check, arm, plane.seed, least, LEAST_ESS)
            continue
        plane.book.positive(check, arm, plane.seed, apart(sample, found), AGREES)
    check = "E[r] against importance sampling, standard errors apart"
    arm = f"method mh, beta {wrong:g} taken for {first:g}"
    plane.book.control(check, arm, plane.seed, apart(samples[wrong], optima[first]), AGREES)
    reference = replace(
        plane.reference, reward=plane.reference.reward[:, : settings.draws]
    )
    arm = f"reference LM taken for pi*, beta {first:g}"
    plane.book.control(check, arm, plane.seed, apart(reference, optima[first]), AGREES)


def apart(sample: Sample, found: Optimum) -> float:
    """|E_q[r] - E*[r]| over the estimable prompts, in standard errors of the difference."""
    here = found.estimable
    rewards = sample.reward[here]
    difference = rewards.mean(1) - found.reward[here]
    variance = rewards.var(1) / rewards.size(1) + found.variance[here]
    return abs(float(difference.sum() / variance.sum().sqrt()))
