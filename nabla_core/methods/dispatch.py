"""From a decoding config to the generator that answers one prompt."""

from __future__ import annotations

from nabla_core.config import Decoding
from nabla_core.methods.answers import last_answer
from nabla_core.methods.baselines import best_of_n, greedy, majority, sample
from nabla_core.methods.metropolis import mh
from nabla_core.methods.nabla import nabla
from nabla_core.requests import Flow
from nabla_core.types import Prompt


def flow(prompt: Prompt, decoding: Decoding, *, seed: int = 0) -> Flow:
    """The generator of the configured method for one prompt."""
    limit = decoding.max_tokens
    match decoding.method:
        case "nabla":
            return nabla(prompt, decoding.nabla, seed=seed, max_tokens=limit)
        case "greedy":
            return greedy(prompt, seed=seed, max_tokens=limit)
        case "sample":
            return sample(prompt, decoding.sample, seed=seed, max_tokens=limit)
        case "best_of_n":
            return best_of_n(prompt, decoding.best_of_n, seed=seed, max_tokens=limit)
        case "majority":
            return majority(prompt, decoding.majority, last_answer, seed=seed, max_tokens=limit)
        case "mh":
            return mh(prompt, decoding.mh, seed=seed, max_tokens=limit)
