"""Statistics of paired comparisons, by scipy. The unit is the prompt, never the row: responses to
one prompt are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.compare.config import Bootstrap
from pipeline.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm minus the reference, over the same prompts.

    `test` names the test of the hypothesis that there is no difference: `mcnemar` (exact, on
    prompts where one is right and the other wrong: `won` and `lost`), or `sign-flip` (a
    permutation test), where a prompt has several responses or a value that is no grade; `won` and
    `lost` then count prompts with a higher and a lower value. `adjusted` is `p` by Holm's method
    over all comparisons of one measure.
    """

    difference: Interval
    test: str
    won: int
    lost: int
    p: float
    adjusted: float


def mean(values: Sequence[float], settings: Bootstrap) -> Interval:
    """The mean with its bootstrap interval (percentile)."""
    found = np.asarray(values, dtype=float)
    if len(found) < 2 or np.ptp(found) == 0:
        # One value, or equal ones: every resample has the same mean.
        return Interval(float(found.mean()), float(found.mean()), float(found.mean()))
    drawn = stats.bootstrap(
        (found,),
        np.mean,
        n_resamples=settings.resamples,
        confidence_level=settings.confidence,
        method="percentile",
        rng=settings.seed,
        batch=256,
    )
    interval = drawn.confidence_interval
    return Interval(float(found.mean()), float(interval.low), float(interval.high))


def differences(
    reference: Sequence[float], others: Mapping[str, Sequence[float]], settings: Bootstrap
) -> dict[str, Difference]:
    """Each of `others` minus the reference; values are of the same prompts in the same order."""
    base = np.asarray(reference, dtype=float)
    tested = {}
    for name, values in others.items():
        change = np.asarray(values, dtype=float) - base
        graded = set(np.unique(np.concatenate([base, values]))) <= {0.0, 1.0}
        tested[name] = (change, *_test(change, graded, settings))
    adjusted = holm({name: p for name, (_, _, p) in tested.items()})
    return {
        name: Difference(
            difference=mean(change.tolist(), settings),
            test=test,
            won=int((change > 0).sum()),
            lost=int((change < 0).sum()),
            p=p,
            adjusted=adjusted[name],
        )
        for name, (change, test, p) in tested.items()
    }


def _test(change: np.ndarray, graded: bool, settings: Bootstrap) -> tuple[str, float]:
    """The name and p of the two-sided test that changes are symmetric about 0."""
    won, lost = int((change > 0).sum()), int((change < 0).sum())
    if graded:
        return "mcnemar", float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    # Both signs of a single difference are equally likely, so it is no evidence.
    if won + lost < 2:
        return "sign-flip", 1.0
    found = stats.permutation_test(
        (change[change != 0],),
        np.sum,
        permutation_type="samples",
        n_resamples=settings.resamples,
        rng=settings.seed,
        batch=256,
        vectorized=True,
    )
    return "sign-flip", float(found.pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """The p of each comparison, adjusted for the number of them (Holm, 1979)."""
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        # A later one is never below an earlier one: rejections stop at the first that fails.
        highest = max(highest, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = highest
    return adjusted
