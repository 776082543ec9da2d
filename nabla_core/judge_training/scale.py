"""The scale of a judge's rewards, held fixed.

A search weighs a rise of the reward against log-probabilities (`ranked.reward_weight`,
`ranked.beta`, `mh.beta`). A retrained judge has rewards of another scale, and all of these settings
would mean something else. One factor at the output layer restores the scale. It changes no order of
rewards, and a constant that is added to all of them has no meaning, so none is fitted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from math import sqrt
from typing import Literal

Scale = Literal["free", "std", "slope"]


def scale_factor(
    kind: Scale, reference: Sequence[float], rewards: Sequence[float], prompts: Sequence[Hashable]
) -> float:
    """The factor for `rewards` of the new judge, given those of the `reference` for the same
    responses; `prompts` are parallel to both.

    Only differences between responses to one prompt are compared, since a search compares no
    others; where every prompt has one response, all of them. `std`: equal standard deviations.
    `slope`: the least-squares slope of the reference's on the new ones. 1 for `free`, and where the
    factor would not be positive.
    """
    if kind == "free":
        return 1.0
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for n, prompt in enumerate(prompts):
        groups[prompt].append(n)
    several = [group for group in groups.values() if len(group) > 1] or [[*range(len(prompts))]]
    old = _deviations(reference, several)
    new = _deviations(rewards, several)
    spread = sum(x * x for x in new)
    if spread == 0:
        return 1.0
    if kind == "std":
        factor = sqrt(sum(x * x for x in old) / spread)
    else:
        factor = sum(x * y for x, y in zip(old, new, strict=True)) / spread
    return factor if factor > 0 else 1.0


def _deviations(values: Sequence[float], groups: Sequence[Sequence[int]]) -> list[float]:
    """Each value minus the mean of its group, group by group."""
    found: list[float] = []
    for group in groups:
        mean = sum(values[n] for n in group) / len(group)
        found += [values[n] - mean for n in group]
    return found
