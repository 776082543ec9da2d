"""Draws against the laws they are said to have, each within what as many exact draws stay in."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nabla_core import MH, NablaConfig, mh, nabla
from nabla_core.sampling import filtered_probabilities
from pipeline.duality.findings import Book
from pipeline.duality.frontier import total_variation
from pipeline.duality.tokens import kernels
from pipeline.duality.tokens.dto_law import decoding_law, optimised
from pipeline.duality.tokens.enumerable import STATES, T, V, World, digits
from pipeline.duality.tokens.gumbel import GumbelChains
from pipeline.duality.tokens.library_runs import counts
from pipeline.duality.tokens.placement import draws_bound
from pipeline.duality.tokens.released import NULL, released

MH_STEPS = 24


def gumbel(book: Book, here: World, seed: int, beta: float, count: int, steps: int) -> None:
    """Chains that start at pi* must stay there; and how far they come from the reference."""
    target = here.target
    goal = target.optimum(beta)
    generator = torch.Generator().manual_seed(seed)
    bound = draws_bound(goal, count, generator)
    arms = {"with gradient": (True, True), "without gradient": (False, True)}
    for name, (gradient, metropolis) in (arms | {"no Metropolis": (True, False)}).items():
        arm = f"Gumbel-MALA {name}"
        chains = GumbelChains(here, beta, step=0.5, gradient=gradient, metropolis=metropolis)
        found, accepted = chains.run(goal, count, steps, generator)
        off = total_variation(found / found.sum(), goal)
        check = f"started at pi*, TV after {steps} steps"
        enter = book.positive if metropolis else book.control
        enter(check, arm, seed, off, bound)
        book.report("acceptance rate", arm, seed, accepted)
        if metropolis:
            found, _ = chains.run(target.reference, count, steps, generator)
            gained = float(found @ target.reward / found.sum())
            share = gained / target.mean_reward(goal)
            check = f"share of pi*'s E[r] reached in {steps} steps"
            book.report(check, arm, seed, share)


def product(book: Book, here: World, seed: int, beta: float, count: int) -> None:
    """The exact laws are of the product's loops: its runs look like draws of them."""
    generator = torch.Generator().manual_seed(seed)
    check = f"TV of {count} runs of the product to the exact law"
    configs = {name: config for name, config, _ in released()}
    for name in ("published (lr .01, 20 steps)", "lr .1, 50 steps, lambda 4"):
        config = configs[name]
        law = decoding_law(here, config)
        bound = draws_bound(law, count, generator)
        found = counts(here, partial(nabla, config=config, seed=seed, max_tokens=T), count)
        off = total_variation(found / found.sum(), law)
        book.positive(check, f"nabla decoding, {name}", seed, off, bound)
    wrong = decoding_law(here, configs[NULL])
    off = total_variation(found / found.sum(), wrong)
    bound = draws_bound(wrong, count, generator)
    book.control(check, f"nabla decoding, {name}, taken for the null arm", seed, off, bound)

    steps = MH_STEPS
    kernel = kernels.suffix_resampling(here, beta)
    law, _ = kernels.follow(kernel, here.target.reference, here.target.optimum(beta), steps)
    sampler = partial(mh, config=MH(beta=beta, steps=steps), seed=seed, max_tokens=T)
    found = counts(here, sampler, count)
    off = total_variation(found / found.sum(), law)
    bound = draws_bound(law, count, generator)
    book.positive(check, f"method mh, {steps} steps", seed, off, bound)


def decoded(book: Book, here: World, seed: int, count: int) -> None:
    """Nabla decoding by Monte-Carlo, token after token, against its law as a sum."""
    generator = torch.Generator().manual_seed(seed)
    check = f"TV of {count} Monte-Carlo runs to the exact law"
    configs = {name: config for name, config, _ in released()}
    null = decoding_law(here, configs[NULL])
    for name in (NULL, "published (lr .01, 20 steps)", "mirror, beta 1, resample at 1"):
        law = decoding_law(here, configs[name])
        found = decode(here, configs[name], count, generator)
        off = total_variation(found / found.sum(), law)
        bound = draws_bound(law, count, generator)
        book.positive(check, f"nabla decoding, {name}", seed, off, bound)
    off = total_variation(found / found.sum(), null)
    bound = draws_bound(null, count, generator)
    book.control(check, f"nabla decoding, {name}, taken for the null arm", seed, off, bound)


def decode(world: World, config: NablaConfig, count: int, generator: torch.Generator) -> Tensor:
    """Counts `[S]` of `count` runs of nabla decoding on the tables: each draws its response,
    its proposals and its tails, and looks at nobody else's law."""
    logits = optimised(world, config)
    chosen = filtered_probabilities(logits.reshape(-1, V), config.resample).reshape(logits.shape)
    ahead = world.conditionals.exp()
    reward, y = world.target.reward, digits()
    now = world.target.reference.multinomial(count, replacement=True, generator=generator)
    for i in range(T):
        token = chosen[now, i].multinomial(1, generator=generator).squeeze(1)
        place = V ** (T - 1 - i)
        # The head and the new token, then a tail drawn one token at a time.
        new = now // (place * V) * (place * V) + token * place
        for t in range(i + 1, T):
            drawn = ahead[new, t].multinomial(1, generator=generator).squeeze(1)
            new = new + drawn * V ** (T - 1 - t)
        sure = ahead[now, i].amax(-1) > config.select.confidence_threshold
        take = ~sure & (token != y[now, i]) & (reward[new] > reward[now])
        now = torch.where(take, new, now)
    return torch.bincount(now, minlength=STATES).double()
