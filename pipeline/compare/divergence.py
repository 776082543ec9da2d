"""How far an arm is from the reference LM: KL(arm || reference), in nats a response.

- `sampled`: tokens are drawn from a law that is known, so KL is estimated from the responses, with
  its error (`nabla_core.engines.divergence`: Rao-Blackwellised, unbiased).
- `one response`: the arm gives one response to a prompt, whatever is drawn. Its law is a point, and
  KL is the negative log-likelihood of that response under the reference, without any error of
  sampling. Greedy decoding of the reference itself is not at 0.
- `search`: the law of what a search returns has no formula, so its KL is not estimated. The
  negative log-likelihood is KL plus the entropy of the arm's law: an upper bound.

Best of N has the bound log N - (N - 1) / N to the law that it samples from (Beirami et al., arXiv
2401.01879), which is the reference itself only at temperature 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from nabla_core.config import Decoding
from pipeline.compare.config import Bootstrap
from pipeline.compare.readings import Kind
from pipeline.compare.results import Response, Results
from pipeline.compare.statistics import mean
from pipeline.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class Distance:
    """See the module. `nll`: the negative log-likelihood under the reference. `kl`: None of a
    search. `plain`: the plain estimate, which has a larger error; None unless `sampled`. `bound`:
    that of best of N, to the law that it samples from."""

    kind: Kind
    nll: Interval
    kl: Interval | None
    plain: Interval | None
    bound: float | None


def distance(
    arm: Results, prompts: Sequence[str], kind: Kind, decoding: Decoding, settings: Bootstrap
) -> Distance | None:
    """None where the arm's responses were not read, or one could not be."""
    nll = _values(arm, prompts, _nll)
    if nll is None:
        return None
    nll_mean = mean(nll, settings)
    if kind == "sampled":
        kl = _values(arm, prompts, lambda r: r.read.kl if r.read else None)
        ratios = _values(arm, prompts, _log_ratio)
        found = None if kl is None else mean(kl, settings)
        plain = None if ratios is None else mean(ratios, settings)
    else:
        found, plain = (nll_mean if kind == "one response" else None), None
    n = decoding.best_of_n.n
    bound = math.log(n) - (n - 1) / n if decoding.method == "best_of_n" else None
    return Distance(kind=kind, nll=nll_mean, kl=found, plain=plain, bound=bound)


def fluency(arm: Results, prompts: Sequence[str], settings: Bootstrap) -> Interval | None:
    """The mean log-likelihood of a token under the reference LM, in nats: of each response the mean
    over its tokens, so a long response has no more weight than a short one. The text that an arm
    delivers is judged, however it was made. None as in `distance`."""
    values = _values(arm, prompts, _log_likelihood_a_token)
    return None if values is None else mean(values, settings)


def _log_likelihood_a_token(response: Response) -> float | None:
    nll = _nll(response)
    return None if nll is None or not response.tokens else -nll / response.tokens


def _nll(response: Response) -> float | None:
    read = response.read
    return None if read is None or read.log_reference is None else -read.log_reference


def _log_ratio(response: Response) -> float | None:
    read = response.read
    if read is None or read.log_policy is None or read.log_reference is None:
        return None
    return read.log_policy - read.log_reference


def _values(
    arm: Results, prompts: Sequence[str], value: Callable[[Response], float | None]
) -> list[float] | None:
    """The mean over the responses to each prompt that were read; None where a prompt has none."""
    found = []
    for prompt in prompts:
        read = [v for r in arm.responses[prompt] if (v := value(r)) is not None]
        if not read or not all(map(math.isfinite, read)):
            return None
        found.append(fmean(read))
    return found
