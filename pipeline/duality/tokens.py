"""Part tokens: T1 and T5 where every law is known exactly, and the released dynamics beside.

Nothing here is estimated that can be summed: the laws of DTO, nabla decoding, best-of-N, the
Markov chains and the trained policies are vectors of 4,096 numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nabla_core import DTO, MH, NablaConfig, Objective, Sampling, mh, nabla
from pipeline.duality import kernels, policies
from pipeline.duality.dto_law import decoding_law, joint_descent, push_forward
from pipeline.duality.enumerable import STATES, T, World, world
from pipeline.duality.findings import Book, merged
from pipeline.duality.frontier import Target, total_variation
from pipeline.duality.gumbel import GumbelChains
from pipeline.duality.product import counts

OWN = Sampling(temperature=1.0)
GAP, TV, BETA_OFF = 0.03, 0.1, 0.05


@dataclass(frozen=True)
class Tokens:
    """`rl_steps` steps of `batch` responses; `grpo_steps` of TRL for the first `grpo_seeds`
    seeds (0: none); `chain_steps` of Markov chains; `chains` Gumbel chains of `gumbel_steps`
    and `product_runs` runs of the product's loops, for the first `sampled_seeds` seeds."""

    betas: tuple[float, ...] = (1.0, 0.5, 0.25)
    rl_steps: int = 600
    rl_rate: float = 6e-3
    batch: int = 512
    grpo_steps: int = 300
    grpo_rate: float = 6e-3
    grpo_batch: int = 256
    grpo_seeds: int = 1
    chain_steps: int = 200
    chains: int = 100_000
    gumbel_steps: int = 40
    sampled_seeds: int = 1
    product_runs: int = 2_000

    def __post_init__(self) -> None:
        if not self.betas or min(self.betas) <= 0:
            raise ValueError(f"tokens.betas must be positive, got {list(self.betas)}")


def run(settings: Tokens, seeds: tuple[int, ...]) -> Book:
    """Every arm in one world a seed."""
    return merged([in_world(settings, seed, seeds) for seed in seeds])


def in_world(settings: Tokens, seed: int, seeds: tuple[int, ...]) -> Book:
    """Every arm in the world of one seed; the costly ones in the first seeds' alone."""
    book = Book("tokens")
    here = world(seed)
    index = seeds.index(seed)
    _chains(book, here, settings, seed)
    _best_of_n(book, here, seed)
    _policies(book, here, settings, seed)
    _released(book, here, seed)
    if index < settings.grpo_seeds:
        _grpo(book, here, settings, seed)
    if index < settings.sampled_seeds:
        _gumbel(book, here, settings, seed)
        _product(book, here, settings, seed)
    curve = [here.target.point(10 ** (k / 10)) for k in range(-9, 16)]
    book.figures["frontier"] = curve
    return book


def describe(book: Book, target: Target, arm: str, seed: int, law: Tensor, beta: float) -> None:
    """Where a law falls, judged by what RLOO is held to."""
    book.report("E[r]", arm, seed, target.mean_reward(law))
    book.report("KL to the reference", arm, seed, target.kl(law))
    book.report("gap to the frontier", arm, seed, target.gap(law), GAP)
    book.report("TV to pi*", arm, seed, total_variation(law, target.optimum(beta)), TV)
    fitted = target.fitted_beta(law)
    book.report("fitted beta", arm, seed, fitted)
    nearest = total_variation(law, target.optimum(fitted))
    book.report("TV to pi* at the fitted beta", arm, seed, nearest, TV)


def _chains(book: Book, here: World, settings: Tokens, seed: int) -> None:
    target, beta = here.target, settings.betas[0]
    goal = target.optimum(beta)
    made = {
        "suffix resampling + Metropolis": partial(kernels.suffix_resampling, here, beta),
        "discrete Langevin + Metropolis": partial(kernels.discrete_langevin, here, beta),
    }
    for arm, make in made.items():
        kernel = make()
        still = kernels.stationarity(kernel, goal)
        book.positive("||pi* P - pi*||_1", arm, seed, still, 1e-12)
        law, distances = kernels.follow(kernel, target.reference, goal, settings.chain_steps)
        book.positive("KL to pi* rises in a step by", arm, seed, kernels.largest_rise(distances), 0)
        check = f"TV to pi* after {settings.chain_steps} steps"
        book.positive(check, arm, seed, total_variation(law, goal), 0.02)
        describe(book, target, arm, seed, law, beta)
        book.figures.setdefault("chains", {}).setdefault(arm, distances)
    wrong = {
        "suffix resampling, accepts all": partial(
            kernels.suffix_resampling, here, beta, metropolis=False
        ),
        "suffix resampling, beta doubled": partial(kernels.suffix_resampling, here, 2 * beta),
        "discrete Langevin, no Metropolis": partial(
            kernels.discrete_langevin, here, beta, metropolis=False
        ),
    }
    for arm, make in wrong.items():
        kernel = make()
        still = kernels.stationarity(kernel, goal)
        book.control("||pi* P - pi*||_1", arm, seed, still, 1e-12)
        law, distances = kernels.follow(kernel, target.reference, goal, settings.chain_steps)
        check = f"TV to pi* after {settings.chain_steps} steps"
        book.control(check, arm, seed, total_variation(law, goal), 0.02)
        describe(book, target, arm, seed, law, beta)
        book.figures["chains"].setdefault(arm, distances)


def _best_of_n(book: Book, here: World, seed: int) -> None:
    for n in (4, 16):
        law = policies.best_of_n(here.target, n)
        excess = here.target.kl(law) - policies.best_of_n_bound(n)
        book.positive("KL above log n - (n - 1) / n", f"best of {n}", seed, excess, 1e-9)
        describe(book, here.target, f"best of {n}", seed, law, here.target.fitted_beta(law))


def _policies(book: Book, here: World, settings: Tokens, seed: int) -> None:
    target = here.target
    for beta in settings.betas:
        steps, rate = settings.rl_steps, settings.rl_rate
        law = policies.exact_gradient(here, beta, steps=steps, rate=rate)
        arm = f"exact-gradient RL, beta {beta:g}"
        book.positive("RL: gap to the frontier", arm, seed, target.gap(law), GAP)
        off = abs(target.fitted_beta(law) / beta - 1)
        book.positive("RL: fitted beta off by", arm, seed, off, BETA_OFF)
        wrong = abs(target.fitted_beta(law) / (2 * beta) - 1)
        book.control("RL: fitted beta off by", f"{arm} taken for {2 * beta:g}", seed, wrong, 0.05)
        describe(book, target, arm, seed, law, beta)
    for beta in settings.betas[:2]:
        law = policies.rloo(here, beta, steps=steps, rate=rate, batch=settings.batch, seed=seed)
        arm = f"sampled RLOO, beta {beta:g}"
        book.positive("RL: gap to the frontier", arm, seed, target.gap(law), GAP)
        off = abs(target.fitted_beta(law) / beta - 1)
        book.positive("RL: fitted beta off by", arm, seed, off, BETA_OFF)
        describe(book, target, arm, seed, law, beta)


def _grpo(book: Book, here: World, settings: Tokens, seed: int) -> None:
    from pipeline.duality.trl_grpo import GROUP, grpo  # noqa: PLC0415 - the `train` extra

    for beta in settings.betas[:2]:
        rest = policies.grpo_fixed_point(here, beta, GROUP)
        describe(book, here.target, f"GRPO's fixed point, beta {beta:g}", seed, rest, beta)
        law = grpo(
            here,
            beta,
            steps=settings.grpo_steps,
            rate=settings.grpo_rate,
            batch=settings.grpo_batch,
            seed=seed,
        )
        arm = f"GRPO (TRL), beta {beta:g}"
        describe(book, here.target, arm, seed, law, beta)
        book.report("TV to GRPO's own fixed point", arm, seed, total_variation(law, rest))


def released(lambdas: tuple[float, ...] = (1.0, 4.0)) -> Iterator[tuple[str, NablaConfig, float]]:
    """Nabla decoding's settings: a name, the config, the beta its objective means."""
    base = NablaConfig(rollout=OWN)
    larger = DTO(learning_rate=0.1, max_iters=50)
    mirror = DTO(optimizer="mirror", eta=1.0)
    yield "null arm (learning rate 0)", replace(base, dto=DTO(learning_rate=0)), 1.0
    yield "published (lr .01, 20 steps)", base, 1e-3
    yield "lr .1, 50 steps, lambda 1000", replace(base, dto=larger), 1e-3
    for weight in lambdas:
        objective = Objective(nll_coeff=1.0, reward_coeff=weight)
        config = replace(base, dto=larger, objective=objective)
        yield f"lr .1, 50 steps, lambda {weight:g}", config, 1 / weight
    # A row of the mirror step is the optimum of the linearised problem at this beta.
    reward_only = Objective(nll_coeff=0.0)
    yield (
        "mirror, eta 1, resample at 1",
        replace(base, dto=mirror, objective=reward_only, resample=OWN),
        1.0,
    )


def _released(book: Book, here: World, seed: int) -> None:
    target = here.target
    descents = {
        "DTO published (lr .01, 20 steps)": (DTO(), 1.0, 1e-3, 1e-3),
        "DTO lr .1, 200 steps, lambda 1": (_long(), 1.0, 1.0, 1.0),
        "DTO lr .1, 200 steps, lambda 2": (_long(), 2.0, 1.0, 0.5),
        "DTO mirror, eta 1": (DTO(optimizer="mirror", eta=1.0), 1.0, 0.0, 1.0),
    }
    for arm, (config, reward, nll, beta) in descents.items():
        goes = joint_descent(here, config, reward, nll)
        law = push_forward(target.reference, goes)
        moved = float(target.reference[goes != torch.arange(STATES)].sum())
        book.report("share of responses changed", arm, seed, moved)
        describe(book, target, arm, seed, law, beta)
    for name, nabla_config, beta in released():
        law = decoding_law(here, nabla_config)
        describe(book, target, f"nabla decoding, {name}", seed, law, beta)


def _long() -> DTO:
    return DTO(learning_rate=0.1, max_iters=200)


def _gumbel(book: Book, here: World, settings: Tokens, seed: int) -> None:
    """Chains that start at pi* must stay there; and how far they come from the reference."""
    target, beta = here.target, settings.betas[0]
    goal = target.optimum(beta)
    generator = torch.Generator().manual_seed(seed)
    bound = draws_bound(goal, settings.chains, generator)
    arms = {"with gradient": (True, True), "without gradient": (False, True)}
    for name, (gradient, metropolis) in (arms | {"no Metropolis": (True, False)}).items():
        arm = f"Gumbel-MALA {name}"
        chains = GumbelChains(here, beta, step=0.5, gradient=gradient, metropolis=metropolis)
        found, accepted = chains.run(goal, settings.chains, settings.gumbel_steps, generator)
        off = total_variation(found / found.sum(), goal)
        check = f"started at pi*, TV after {settings.gumbel_steps} steps"
        enter = book.positive if metropolis else book.control
        enter(check, arm, seed, off, bound)
        book.report("acceptance rate", arm, seed, accepted)
        if metropolis:
            found, _ = chains.run(
                target.reference, settings.chains, settings.gumbel_steps, generator
            )
            gained = float(found @ target.reward / found.sum())
            share = gained / target.mean_reward(goal)
            check = f"share of pi*'s E[r] reached in {settings.gumbel_steps} steps"
            book.report(check, arm, seed, share)


def _product(book: Book, here: World, settings: Tokens, seed: int) -> None:
    """The exact laws above are of the product's loops: its runs look like draws of them."""
    generator = torch.Generator().manual_seed(seed)
    check = f"TV of {settings.product_runs} runs of the product and the exact law"
    configs = {name: config for name, config, _ in released()}
    for name in ("published (lr .01, 20 steps)", "lr .1, 50 steps, lambda 4"):
        config = configs[name]
        law = decoding_law(here, config)
        bound = draws_bound(law, settings.product_runs, generator)
        found = counts(
            here, partial(nabla, config=config, seed=seed, max_tokens=T), settings.product_runs
        )
        off = total_variation(found / found.sum(), law)
        book.positive(check, f"nabla decoding, {name}", seed, off, bound)
    wrong = decoding_law(here, configs["null arm (learning rate 0)"])
    off = total_variation(found / found.sum(), wrong)
    bound = draws_bound(wrong, settings.product_runs, generator)
    book.control(check, f"nabla decoding, {name}, taken for the null arm", seed, off, bound)

    beta, steps = settings.betas[0], 24
    kernel = kernels.suffix_resampling(here, beta)
    law, _ = kernels.follow(kernel, here.target.reference, here.target.optimum(beta), steps)
    sampler = partial(mh, config=MH(beta=beta, steps=steps), seed=seed, max_tokens=T)
    found = counts(here, sampler, settings.product_runs)
    off = total_variation(found / found.sum(), law)
    bound = draws_bound(law, settings.product_runs, generator)
    book.positive(check, f"method mh, {steps} steps", seed, off, bound)


def draws_bound(law: Tensor, count: int, generator: torch.Generator) -> float:
    """The TV to a law that `count` exact draws of it stay under: mean and four standard
    deviations over 40 repetitions."""
    repeats = []
    for _ in range(40):
        drawn = law.multinomial(count, replacement=True, generator=generator)
        seen = torch.bincount(drawn, minlength=len(law)).double() / count
        repeats.append(total_variation(seen, law))
    values = torch.tensor(repeats, dtype=torch.float64)
    return float(values.mean() + 4 * values.std())
