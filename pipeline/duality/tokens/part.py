"""Part tokens: T1 and T5 where every law is known exactly, and the released dynamics beside.

Nothing is estimated that can be summed: the laws of DTO, nabla decoding, best-of-N, the
Markov chains and the trained policies are vectors of 4,096 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from pipeline.duality.findings import Book
from pipeline.duality.frontier import total_variation
from pipeline.duality.tokens import kernels, policies
from pipeline.duality.tokens import monte_carlo as draws
from pipeline.duality.tokens.enumerable import World, world
from pipeline.duality.tokens.placement import BETA_OFF, GAP, describe
from pipeline.duality.tokens.released import released_laws

# Of a KL summed over 4,096 float64 numbers: near 0 it flickers by as much.
ROUNDING = 1e-13


@dataclass(frozen=True)
class Tokens:
    """RL: `rl_steps` steps of `batch` responses; TRL's GRPO, if `grpo`: `grpo_steps`. Markov
    chains: `chain_steps`. Draws: `chains` Gumbel chains of `gumbel_steps`, `decoded` runs of
    nabla decoding on the tables, `product_runs` of the product's loops."""

    betas: tuple[float, ...] = (1.0, 0.5, 0.25)
    rl_steps: int = 1_200
    rl_rate: float = 6e-3
    batch: int = 512
    grpo: bool = True
    grpo_steps: int = 300
    grpo_rate: float = 6e-3
    grpo_batch: int = 256
    chain_steps: int = 400
    chains: int = 100_000
    gumbel_steps: int = 40
    decoded: int = 100_000
    product_runs: int = 1_000

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or min(self.betas) <= 0:
            raise ValueError(f"tokens.betas must be positive, two at least, got {list(self.betas)}")


def laws(settings: Tokens, seed: int) -> Book:
    """The arms whose laws are exact, and RL, in the world of a seed."""
    book, here = Book("tokens"), world(seed)
    _chains(book, here, settings, seed)
    _best_of_n(book, here, seed)
    _policies(book, here, settings, seed)
    released_laws(book, here, seed)
    book.figures["frontier"] = [here.target.point(10 ** (k / 10)) for k in range(-9, 16)]
    return book


def grpo(settings: Tokens, seed: int) -> Book:
    """GRPO through TRL, and the fixed point it would come to rest at."""
    book = Book("tokens")
    _grpo(book, world(seed), settings, seed)
    return book


def drawn(settings: Tokens, seed: int) -> Book:
    """What takes draws: Gumbel-MALA, and runs of the released dynamics against their laws."""
    book, here, beta = Book("tokens"), world(seed), settings.betas[0]
    draws.gumbel(book, here, seed, beta, settings.chains, settings.gumbel_steps)
    draws.decoded(book, here, seed, settings.decoded)
    draws.product(book, here, seed, beta, settings.product_runs)
    return book


# Longest first.
PIECES: dict[str, Callable[[Tokens, int], Book]] = {"laws": laws, "grpo": grpo, "drawn": drawn}


def run(settings: Tokens, seed: int) -> list[Book]:
    """Every arm in the world of a seed."""
    return [make(settings, seed) for make in PIECES.values()]


def _chains(book: Book, here: World, settings: Tokens, seed: int) -> None:
    target, beta = here.target, settings.betas[0]
    goal = target.optimum(beta)
    made: dict[str, tuple[str, Callable[[], Tensor]]] = {
        "suffix resampling + Metropolis": (
            "positive",
            partial(kernels.suffix_resampling, here, beta),
        ),
        "discrete Langevin + Metropolis": (
            "positive",
            partial(kernels.discrete_langevin, here, beta),
        ),
        "suffix resampling, accepts all": (
            "control",
            partial(kernels.suffix_resampling, here, beta, metropolis=False),
        ),
        "suffix resampling, beta doubled": (
            "control",
            partial(kernels.suffix_resampling, here, 2 * beta),
        ),
        "discrete Langevin, no Metropolis": (
            "control",
            partial(kernels.discrete_langevin, here, beta, metropolis=False),
        ),
    }
    for arm, (kind, make) in made.items():
        right = kind == "positive"
        enter = book.positive if right else book.control
        kernel = make()
        enter("||pi* P - pi*||_1", arm, seed, kernels.stationarity(kernel, goal), 1e-12)
        steps = settings.chain_steps if right else settings.chain_steps // 4
        law, distances = kernels.follow(kernel, target.reference, goal, steps)
        if right:
            rise = kernels.largest_rise(distances)
            book.positive("KL to pi* rises in a step by", arm, seed, rise, ROUNDING)
        check = f"TV to pi* after {steps} steps"
        enter(check, arm, seed, total_variation(law, goal), 0.02)
        describe(book, target, arm, seed, law, beta)
        book.figures.setdefault("chains", {})[arm] = distances


def _best_of_n(book: Book, here: World, seed: int) -> None:
    for n in (4, 16):
        law = policies.best_of_n(here.target, n)
        excess = here.target.kl(law) - policies.best_of_n_bound(n)
        book.positive("KL above log n - (n - 1) / n", f"best of {n}", seed, excess, 1e-9)
        describe(book, here.target, f"best of {n}", seed, law, here.target.fitted_beta(law))


def _policies(book: Book, here: World, settings: Tokens, seed: int) -> None:
    for beta in settings.betas:
        law = policies.exact_gradient(here, beta, steps=settings.rl_steps, rate=settings.rl_rate)
        arm = f"exact-gradient RL, beta {beta:g}"
        _trained(book, here, arm, seed, law, beta)
        wrong = abs(here.target.fitted_beta(law) / (2 * beta) - 1)
        arm = f"{arm} taken for {2 * beta:g}"
        book.control("RL: fitted beta off by", arm, seed, wrong, BETA_OFF)
    for beta in settings.betas[:2]:
        law = policies.rloo(
            here,
            beta,
            steps=settings.rl_steps,
            rate=settings.rl_rate,
            batch=settings.batch,
            seed=seed,
        )
        _trained(book, here, f"sampled RLOO, beta {beta:g}", seed, law, beta)
    # RL that is cut short must be told from RL that has arrived.
    beta = settings.betas[-1]
    steps = settings.rl_steps // 40
    law = policies.exact_gradient(here, beta, steps=steps, rate=settings.rl_rate)
    arm = f"exact-gradient RL, beta {beta:g}, cut short"
    book.control("RL: gap to the frontier", arm, seed, here.target.gap(law), GAP)


def _trained(book: Book, here: World, arm: str, seed: int, law: Tensor, beta: float) -> None:
    target = here.target
    book.positive("RL: gap to the frontier", arm, seed, target.gap(law), GAP)
    off = abs(target.fitted_beta(law) / beta - 1)
    book.positive("RL: fitted beta off by", arm, seed, off, BETA_OFF)
    describe(book, target, arm, seed, law, beta)


def _grpo(book: Book, here: World, settings: Tokens, seed: int) -> None:
    from pipeline.duality.tokens import trl_grpo  # noqa: PLC0415 - the `train` extra

    steps = settings.grpo_steps
    for beta in settings.betas[:2]:
        rest = policies.grpo_fixed_point(here, beta, trl_grpo.GROUP)
        describe(book, here.target, f"GRPO's fixed point, beta {beta:g}", seed, rest, beta)
        law = trl_grpo.grpo(
            here,
            beta,
            steps=steps,
            rate=settings.grpo_rate,
            batch=settings.grpo_batch,
            seed=seed,
        )
        arm = f"GRPO (TRL) after {steps} steps, beta {beta:g}"
        describe(book, here.target, arm, seed, law, beta)
        book.report("TV to GRPO's own fixed point", arm, seed, total_variation(law, rest))
