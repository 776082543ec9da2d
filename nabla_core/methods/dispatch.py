"""From a decoding config to the generator that answers one prompt."""

from __future__ import annotations

from collections.abc import Callable

from nabla_core.config import Decoding
from nabla_core.methods.answers import last_answer, same_answer
from nabla_core.methods.baselines import best_of_n, majority, sample
from nabla_core.methods.beam import beam
from nabla_core.methods.ggro import ggro
from nabla_core.methods.mcts import mcts
from nabla_core.methods.metropolis import mh
from nabla_core.methods.nabla import nabla
from nabla_core.requests import Flow
from nabla_core.types import Prompt


def flow(
    prompt: Prompt,
    decoding: Decoding,
    *,
    seed: int = 0,
    answer: Callable[[str], str | None] = last_answer,
    same: Callable[[str, str], bool] = same_answer,
    judged: bool = True,
) -> Flow:
    """The generator of the configured method for one prompt. `judged`: there is a judge; methods
    that cannot do without one ask it in any case.

    Method majority takes the `answer` of each response and groups those that are the `same`.
    """
    limit = decoding.max_tokens
    chosen: Flow
    match decoding.method:
        case "nabla":
            chosen = nabla(prompt, decoding.nabla, seed=seed, max_tokens=limit)
        case "greedy" | "sample" | "guided":
            # They differ in how the one response is drawn: `guided` has a beta.
            chosen = sample(prompt, decoding.rollout, seed=seed, max_tokens=limit, judged=judged)
        case "best_of_n":
            chosen = best_of_n(prompt, decoding.best_of_n, seed=seed, max_tokens=limit)
        case "majority":
            vote = decoding.majority
            chosen = majority(prompt, vote, answer, same=same, seed=seed, max_tokens=limit)
        case "beam":
            chosen = beam(prompt, decoding.beam, seed=seed, max_tokens=limit)
        case "mcts":
            chosen = mcts(prompt, decoding.mcts, seed=seed, max_tokens=limit)
        case "ggro":
            chosen = ggro(prompt, decoding.ggro, seed=seed, max_tokens=limit)
        case "mh":
            chosen = mh(prompt, decoding.mh, seed=seed, max_tokens=limit)
    return chosen
