"""Part tokens: T1 and T5 where every law is known exactly, and the released algorithm.

Nothing is estimated that can be summed: the laws of DTO, nabla decoding, best-of-N, the
Markov chains and the trained policies are vectors of 4,096 probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from pipeline.duality import names
from pipeline.duality.best_of_n import best_of_n_kl_bound, best_of_n_law
from pipeline.duality.findings import PartResults
from pipeline.duality.frontier import total_variation
from pipeline.duality.thresholds import MAX_BETA_ERROR, MAX_GAP
from pipeline.duality.tokens import kernels, monte_carlo, policies
from pipeline.duality.tokens.config import TokensConfig
from pipeline.duality.tokens.enumerable import EnumeratedModels, random_models
from pipeline.duality.tokens.metrics import describe
from pipeline.duality.tokens.released import released_laws

MAX_STATIONARITY_ERROR = 1e-12
MAX_CHAIN_TV = 0.02
# Rounding error of a KL summed over 4,096 float64 numbers: near 0 it fluctuates by as much.
KL_ROUNDING = 1e-13


def laws(settings: TokensConfig, seed: int) -> PartResults:
    """The arms whose laws are exact, and RL, on the random models of a seed."""
    results, models = PartResults("tokens"), random_models(seed)
    _chains(results, models, settings, seed)
    _best_of_n(results, models, seed)
    _policies(results, models, settings, seed)
    released_laws(results, models, seed)
    problem = models.problem
    results.plot_data["frontier"] = [problem.point(10 ** (k / 10)) for k in range(-9, 16)]
    return results


def grpo(settings: TokensConfig, seed: int) -> PartResults:
    """GRPO as TRL runs it, and its exact fixed point."""
    results = PartResults("tokens")
    _grpo(results, random_models(seed), settings, seed)
    return results


def draws(settings: TokensConfig, seed: int) -> PartResults:
    """What needs draws: Gumbel-MALA, and runs of the released algorithm against their laws."""
    results, models = PartResults("tokens"), random_models(seed)
    beta = settings.betas[0]
    monte_carlo.gumbel_mala(
        results, models, seed, beta, settings.gumbel_chains, settings.gumbel_steps
    )
    monte_carlo.table_runs(results, models, seed, settings.decoding_runs)
    monte_carlo.library_runs(results, models, seed, beta, settings.library_runs)
    return results


# The longest first: then the others run beside it, and no process waits at the end.
EXPERIMENTS: dict[str, Callable[[TokensConfig, int], PartResults]] = {
    "laws": laws,
    "grpo": grpo,
    "draws": draws,
}


def run(settings: TokensConfig, seed: int) -> list[PartResults]:
    """Every arm on the random models of a seed."""
    return [experiment(settings, seed) for experiment in EXPERIMENTS.values()]


def _chains(
    results: PartResults, models: EnumeratedModels, settings: TokensConfig, seed: int
) -> None:
    """T5: chains with a Metropolis test keep pi* and reach it; wrong chains do neither."""
    beta = settings.betas[0]
    correct: dict[str, Callable[[], Tensor]] = {
        "suffix resampling + Metropolis": partial(kernels.suffix_resampling, models, beta),
        "discrete Langevin + Metropolis": partial(kernels.discrete_langevin, models, beta),
    }
    wrong: dict[str, Callable[[], Tensor]] = {
        "suffix resampling, accepts all": partial(
            kernels.suffix_resampling, models, beta, metropolis=False
        ),
        "suffix resampling, beta doubled": partial(kernels.suffix_resampling, models, 2 * beta),
        "discrete Langevin, no Metropolis": partial(
            kernels.discrete_langevin, models, beta, metropolis=False
        ),
    }
    # Kernels are built one at a time: each is a matrix of 128 MiB.
    for arm, build in correct.items():
        _chain(results, models, arm, seed, build(), beta, settings.chain_steps, correct=True)
    for arm, build in wrong.items():
        _chain(results, models, arm, seed, build(), beta, settings.chain_steps // 4, correct=False)


def _chain(
    results: PartResults,
    models: EnumeratedModels,
    arm: str,
    seed: int,
    kernel: Tensor,
    beta: float,
    steps: int,
    *,
    correct: bool,
) -> None:
    problem = models.problem
    optimum = problem.optimum(beta)
    add = results.positive if correct else results.control
    error = kernels.stationarity_error(kernel, optimum)
    add(names.STATIONARITY, arm, seed, error, MAX_STATIONARITY_ERROR)
    law, distances = kernels.follow(kernel, problem.reference, optimum, steps)
    if correct:
        # Data processing: KL(q P || pi*) <= KL(q || pi*) for any kernel P that keeps pi*.
        rise = kernels.largest_rise(distances)
        results.positive("KL to pi* rises in a step by", arm, seed, rise, KL_ROUNDING)
    check = f"{names.TV_AFTER} {steps} steps"
    add(check, arm, seed, total_variation(law, optimum), MAX_CHAIN_TV)
    describe(results, problem, arm, seed, law, beta)
    results.plot_data.setdefault("chains", {})[arm] = distances


def _best_of_n(results: PartResults, models: EnumeratedModels, seed: int) -> None:
    problem = models.problem
    for n in (4, 16):
        law = best_of_n_law(problem, n)
        excess = problem.kl(law) - best_of_n_kl_bound(n)
        results.positive("KL above log n - (n - 1) / n", f"best of {n}", seed, excess, 1e-9)
        # Best of n has no beta of its own, so it is compared at the fitted one.
        describe(results, problem, f"best of {n}", seed, law, problem.fitted_beta(law))


def _policies(
    results: PartResults, models: EnumeratedModels, settings: TokensConfig, seed: int
) -> None:
    """T1: RL with the KL in the reward reaches pi*_beta, and the checks would notice another
    beta and a training that is not finished."""
    problem = models.problem
    steps, rate = settings.rl_steps, settings.rl_learning_rate
    for beta in settings.betas:
        law = policies.exact_gradient(models, beta, steps=steps, learning_rate=rate)
        arm = f"exact-gradient RL, beta {beta:g}"
        _trained(results, models, arm, seed, law, beta)
        error = abs(problem.fitted_beta(law) / (2 * beta) - 1)
        arm = f"{arm} taken for {2 * beta:g}"
        results.control(names.RL_BETA, arm, seed, error, MAX_BETA_ERROR)
    for beta in settings.betas[:2]:
        law = policies.rloo(
            models,
            beta,
            steps=steps,
            learning_rate=rate,
            batch=settings.rl_batch,
            seed=seed,
        )
        _trained(results, models, f"sampled RLOO, beta {beta:g}", seed, law, beta)
    beta = settings.betas[-1]
    law = policies.exact_gradient(models, beta, steps=steps // 40, learning_rate=rate)
    arm = f"exact-gradient RL, beta {beta:g}, cut short"
    results.control(names.RL_GAP, arm, seed, problem.gap(law), MAX_GAP)


def _trained(
    results: PartResults, models: EnumeratedModels, arm: str, seed: int, law: Tensor, beta: float
) -> None:
    problem = models.problem
    results.positive(names.RL_GAP, arm, seed, problem.gap(law), MAX_GAP)
    error = abs(problem.fitted_beta(law) / beta - 1)
    results.positive(names.RL_BETA, arm, seed, error, MAX_BETA_ERROR)
    describe(results, problem, arm, seed, law, beta)


def _grpo(
    results: PartResults, models: EnumeratedModels, settings: TokensConfig, seed: int
) -> None:
    # TRL comes with the optional extra `train`.
    from pipeline.duality.tokens import trl_grpo  # noqa: PLC0415

    steps = settings.grpo_steps
    for beta in settings.betas[:2]:
        fixed_point = policies.grpo_fixed_point(models, beta, trl_grpo.GROUP)
        arm = f"GRPO's fixed point, beta {beta:g}"
        describe(results, models.problem, arm, seed, fixed_point, beta)
        law = trl_grpo.grpo(
            models,
            beta,
            steps=steps,
            learning_rate=settings.grpo_learning_rate,
            batch=settings.grpo_batch,
            seed=seed,
        )
        arm = f"GRPO (TRL) after {steps} steps, beta {beta:g}"
        describe(results, models.problem, arm, seed, law, beta)
        results.report(names.GRPO_TV, arm, seed, total_variation(law, fixed_point))
