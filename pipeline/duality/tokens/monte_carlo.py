"""Monte-Carlo runs against the exact laws that are computed for them.

A run passes where its frequencies are as near to the law as those of as many exact draws.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nabla_core import MH, NablaConfig, mh, nabla
from nabla_core.sampling import filtered_probabilities
from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.tokens import kernels
from pipeline.duality.tokens.dto_law import decoding_law, optimised_logits
from pipeline.duality.tokens.enumerable import STATES, EnumeratedModels, T, V, digits
from pipeline.duality.tokens.gumbel import GumbelChains
from pipeline.duality.tokens.library_runs import counts
from pipeline.duality.tokens.metrics import empirical_tv, sampling_bound
from pipeline.duality.tokens.released import LONGER, MIRROR, NULL, PUBLISHED, released

MH_STEPS = 24
GUMBEL_STEP = 0.5


def gumbel_mala(
    results: PartResults,
    models: EnumeratedModels,
    seed: int,
    beta: float,
    count: int,
    steps: int,
) -> None:
    """T5: chains that start at pi* must keep it; reported is also how far chains come that
    start at the reference."""
    problem = models.problem
    optimum = problem.optimum(beta)
    generator = torch.Generator().manual_seed(seed)
    bound = sampling_bound(optimum, count, generator)
    # Arm: whether it uses the gradient, whether it has a Metropolis test.
    arms = {
        "with gradient": (True, True),
        "without gradient": (False, True),
        "no Metropolis": (True, False),
    }
    for name, (gradient, metropolis) in arms.items():
        arm = f"Gumbel-MALA {name}"
        chains = GumbelChains(
            models, beta, step_size=GUMBEL_STEP, gradient=gradient, metropolis=metropolis
        )
        ends, acceptance = chains.run(optimum, count, steps, generator)
        check = f"{names.GUMBEL_TV} {steps} steps"
        add = results.positive if metropolis else results.control
        add(check, arm, seed, empirical_tv(ends, optimum), bound)
        results.report(names.ACCEPTANCE, arm, seed, acceptance)
        if metropolis:
            ends, _ = chains.run(problem.reference, count, steps, generator)
            reward = float(ends @ problem.reward / ends.sum())
            share = reward / problem.mean_reward(optimum)
            check = f"share of pi*'s E[r] reached in {steps} steps"
            results.report(check, arm, seed, share)


def library_runs(
    results: PartResults, models: EnumeratedModels, seed: int, beta: float, count: int
) -> None:
    """The library's own decoding loops draw from the laws that are computed for them."""
    generator = torch.Generator().manual_seed(seed)
    check = f"TV of {count} runs of the library to the exact law"
    configs = {setting.name: setting.config for setting in released()}
    for name in (PUBLISHED, LONGER):
        config = configs[name]
        law = decoding_law(models, config)
        bound = sampling_bound(law, count, generator)
        ends = counts(models, partial(nabla, config=config, seed=seed, max_tokens=T), count)
        arm = f"nabla decoding, {name}"
        results.positive(check, arm, seed, empirical_tv(ends, law), bound)
    # Control: the runs of the last setting, compared with the law of another setting.
    null = decoding_law(models, configs[NULL])
    bound = sampling_bound(null, count, generator)
    arm = f"nabla decoding, {LONGER}, taken for the null arm"
    results.control(check, arm, seed, empirical_tv(ends, null), bound)

    kernel = kernels.suffix_resampling(models, beta)
    problem = models.problem
    law, _ = kernels.follow(kernel, problem.reference, problem.optimum(beta), MH_STEPS)
    method = partial(mh, config=MH(beta=beta, steps=MH_STEPS), seed=seed, max_tokens=T)
    ends = counts(models, method, count)
    bound = sampling_bound(law, count, generator)
    results.positive(check, f"method mh, {MH_STEPS} steps", seed, empirical_tv(ends, law), bound)


def table_runs(results: PartResults, models: EnumeratedModels, seed: int, count: int) -> None:
    """Nabla decoding simulated on the tables, token after token, against its exact law."""
    generator = torch.Generator().manual_seed(seed)
    check = f"TV of {count} Monte-Carlo runs to the exact law"
    configs = {setting.name: setting.config for setting in released()}
    for name in (NULL, PUBLISHED, MIRROR):
        law = decoding_law(models, configs[name])
        ends = decode(models, configs[name], count, generator)
        bound = sampling_bound(law, count, generator)
        arm = f"nabla decoding, {name}"
        results.positive(check, arm, seed, empirical_tv(ends, law), bound)
    null = decoding_law(models, configs[NULL])
    bound = sampling_bound(null, count, generator)
    arm = f"nabla decoding, {MIRROR}, taken for the null arm"
    results.control(check, arm, seed, empirical_tv(ends, null), bound)


def decode(
    models: EnumeratedModels, config: NablaConfig, count: int, generator: torch.Generator
) -> Tensor:
    """Counts `[S]` of the final responses of `count` runs of nabla decoding on the tables.

    Each run draws its response, its proposals and its rollouts. It shares the optimised logits
    with `decoding_law`, and nothing of how the law is computed.
    """
    logits = optimised_logits(models, config)
    proposals = filtered_probabilities(logits.reshape(-1, V), config.resample)
    proposals = proposals.reshape(logits.shape)
    conditionals = models.conditionals.exp()
    reward, y = models.problem.reward, digits()
    state = models.problem.reference.multinomial(count, replacement=True, generator=generator)
    for i in range(T):
        token = proposals[state, i].multinomial(1, generator=generator).squeeze(1)
        place = V ** (T - 1 - i)
        # The old prefix and the new token, then a rollout of one token at a time.
        new = state // (place * V) * (place * V) + token * place
        for t in range(i + 1, T):
            drawn = conditionals[new, t].multinomial(1, generator=generator).squeeze(1)
            new = new + drawn * V ** (T - 1 - t)
        confident = conditionals[state, i].amax(-1) > config.select.confidence_threshold
        # As nabla decoding: no proposal at confident positions, a strictly higher reward elsewhere.
        accept = ~confident & (token != y[state, i]) & (reward[new] > reward[state])
        state = torch.where(accept, new, state)
    return torch.bincount(state, minlength=STATES).double()
