"""What fewer samples would have given: pass@k, majority and best of k from one arm's samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from pipeline.compare.results import COSTS, Response, Results
from pipeline.tables.yields import Attempts, pass_at

# A majority vote is averaged over all subsets, up to so many, and over random ones beyond.
ALL_SUBSETS, RANDOM_SUBSETS = 256, 64

Estimator = Callable[[Sequence[Response], int], float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What an arm gives at 1, 2, 4, ... samples or proposals: accuracy and reward (None where they
    are not known) as means over prompts, and the costs of so many by name (`results.COSTS`)."""

    arm: str
    kind: str
    samples: Sequence[int]
    accuracy: Sequence[float] | None
    reward: Sequence[float] | None = None
    costs: dict[str, list[float]]


def curves(arm: Results, prompts: Sequence[str]) -> Iterator[Curve]:
    """The curves of an arm with several samples of each prompt; none of others."""
    groups = [arm.responses[prompt] for prompt in prompts]
    most = min(len(group) for group in groups)
    graded = all(r.correct is not None for group in groups for r in group)
    if most < 2 or not graded:
        return
    counts = [2**n for n in range(most.bit_length()) if 2**n <= most]
    estimators: dict[str, Estimator] = {"pass@k": _pass}
    if _has_votes(groups):
        estimators["majority of k"] = majority
    if all(r.reward is not None for group in groups for r in group):
        estimators["best of k"] = best_of
    sample = {n: float(np.mean([[r.costs[n] for r in g[:most]] for g in groups])) for n in COSTS}
    for kind, estimate in estimators.items():
        yield Curve(
            arm=arm.name,
            kind=kind,
            samples=counts,
            accuracy=[float(np.mean([estimate(g[:most], k) for g in groups])) for k in counts],
            reward=(
                [float(np.mean([best_reward(g[:most], k) for g in groups])) for k in counts]
                if kind == "best of k"
                else None
            ),
            costs={name: [cost * k for k in counts] for name, cost in sample.items()},
        )


def _has_votes(groups: Sequence[Sequence[Response]]) -> bool:
    """Whether a vote can find the right answers. A verifier may grade free texts, which have no
    answer to count: a response is then right without one."""
    responses = [r for group in groups for r in group]
    unseen = any(r.correct and r.predicted is None for r in responses)
    return not unseen and any(r.predicted is not None for r in responses)


def _pass(group: Sequence[Response], k: int) -> float:
    return pass_at(k, Attempts(right=sum(bool(r.correct) for r in group), made=len(group)))


def best_of(group: Sequence[Response], k: int) -> float:
    """The probability that the response with the highest reward among k is right, over all subsets
    of k responses: the r-th lowest of n wins in C(r - 1, k - 1) of C(n, k) subsets. Unbiased.
    Of equal rewards the one that was drawn first wins."""
    ordered = sorted(group, key=lambda r: (r.reward, -r.sample))
    n = len(ordered)
    wins = (comb(rank, k - 1) * bool(r.correct) for rank, r in enumerate(ordered))
    return sum(wins) / comb(n, k)


def best_reward(group: Sequence[Response], k: int) -> float:
    """The mean over all subsets of k responses of the highest reward. Unbiased."""
    ordered = sorted(r.reward for r in group if r.reward is not None)
    wins = (comb(rank, k - 1) * reward for rank, reward in enumerate(ordered))
    return sum(wins) / comb(len(ordered), k)


def majority(group: Sequence[Response], k: int) -> float:
    """The share of subsets of k responses whose most frequent answer is right: of all subsets, or
    of random ones, without bias, where there are more than `ALL_SUBSETS`. Of equally frequent
    answers the one that was drawn first wins."""
    # The sum over all subsets has no closed form; k of 64 are too many to visit.
    votes = [_voted(group, chosen) for chosen in _subsets(len(group), k)]
    return sum(votes) / len(votes)


def _subsets(n: int, k: int) -> Iterator[Sequence[int]]:
    """Indices of k of n, each in ascending order."""
    if comb(n, k) <= ALL_SUBSETS:
        yield from combinations(range(n), k)
        return
    draws = np.random.default_rng(0)
    for _ in range(RANDOM_SUBSETS):
        yield sorted(draws.choice(n, k, replace=False))


def _voted(group: Sequence[Response], chosen: Sequence[int]) -> bool:
    """Whether the most frequent answer of these responses is right. No answer is no vote."""
    voters = [group[n] for n in chosen if group[n].predicted is not None]
    votes = Counter(voter.predicted for voter in voters)
    # `max` takes the first of equals, and a Counter keeps the order in which answers came.
    answer = max(votes, key=votes.__getitem__, default=None)
    return next((bool(r.correct) for r in voters if r.predicted == answer), False)
