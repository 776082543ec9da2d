"""Which graded answers are trained on, and how often: held-out prompts, hard negatives, weights of
folders, and pairs. Imports neither torch nor ray."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from pipeline.errors import InputError
from pipeline.train_judge.answers import GradedAnswer
from pipeline.train_judge.config import Hard


@dataclass(frozen=True, slots=True)
class Pair:
    """A right and a wrong answer to one prompt; their numbers in the list of answers."""

    right: int
    wrong: int


def split(
    answers: Sequence[GradedAnswer], share: float
) -> tuple[list[GradedAnswer], list[GradedAnswer]]:
    """Answers to train on and held-out ones, about this share of prompts. A prompt is in the same
    part in every training. Raises InputError where a part lacks right or wrong answers."""
    train = [a for a in answers if _position(a.key) >= share]
    held_out = [a for a in answers if _position(a.key) < share]
    for part, name in ((train, "to train on"), (held_out, "held out")):
        right = sum(a.right for a in part)
        if not right or right == len(part):
            raise InputError(
                f"{len(part):,} answers {name}, {right:,} of them right: a judge needs right and "
                "wrong ones in both parts; give run folders with more prompts, or samples at a "
                "higher temperature"
            )
    return train, held_out


def hard_negatives(answers: Sequence[GradedAnswer], quantile: float) -> list[bool]:
    """Which answers are wrong with a reward of at least this quantile of the rewards of right ones
    of the same judge. Rewards of different judges cannot be compared."""
    right: dict[str | None, list[float]] = defaultdict(list)
    for a in answers:
        if a.right and a.reward is not None:
            right[a.judge].append(a.reward)
    least = {
        judge: sorted(rewards)[min(floor(quantile * len(rewards)), len(rewards) - 1)]
        for judge, rewards in right.items()
    }
    return [
        not a.right and a.reward is not None and a.judge in least and a.reward >= least[a.judge]
        for a in answers
    ]


def pairs(answers: Sequence[GradedAnswer], hard: Sequence[bool], most: int) -> list[Pair]:
    """Pairs of each prompt, `most` at most: hard negatives first, right answers in turn. Raises
    InputError where no prompt has both."""
    right: dict[str, list[int]] = defaultdict(list)
    wrong: dict[str, list[int]] = defaultdict(list)
    for n, a in enumerate(answers):
        (right if a.right else wrong)[a.key].append(n)
    found = [
        Pair(right[key][n % len(right[key])], number)
        for key, numbers in wrong.items()
        if key in right
        for n, number in enumerate(sorted(numbers, key=lambda n: not hard[n])[:most])
    ]
    if not found:
        raise InputError(
            "goal.loss=pairs: no prompt has a right and a wrong answer; give several samples of "
            "each prompt, or train with goal.loss=bce"
        )
    return found


def shares(
    sources: Sequence[int], hard: Sequence[bool], weights: Sequence[float], settings: Hard
) -> dict[tuple[int, bool], float]:
    """How often items of each (source, hard) are drawn; the shares sum to 1. `weights` of sources
    may be empty: then a source weighs as much as it has items. Raises InputError."""
    counts: dict[tuple[int, bool], int] = defaultdict(int)
    for pool in zip(sources, hard, strict=True):
        counts[pool] += 1
    found: dict[tuple[int, bool], float] = {}
    for source in set(sources):
        weighed = {
            is_hard: counts[source, is_hard] * (settings.weight if is_hard else 1.0)
            for is_hard in (False, True)
        }
        total = sum(weighed.values())
        whole = weights[source] if weights else counts[source, False] + counts[source, True]
        found |= {
            (source, is_hard): whole * weight / total if total else 0.0
            for is_hard, weight in weighed.items()
        }
    total = sum(found.values())
    if not total:
        raise InputError("data.weights and data.hard.weight leave no answer to train on")
    found = {pool: weight / total for pool, weight in found.items()}
    hard_share = sum(weight for (_, is_hard), weight in found.items() if is_hard)
    if settings.limit is not None and settings.limit < hard_share < 1:
        factors = {
            True: settings.limit / hard_share,
            False: (1 - settings.limit) / (1 - hard_share),
        }
        found = {pool: weight * factors[pool[1]] for pool, weight in found.items()}
    return {pool: weight for pool, weight in sorted(found.items()) if weight}


def draw(
    sources: Sequence[int],
    hard: Sequence[bool],
    drawn: dict[tuple[int, bool], float],
    count: int,
    seed: int,
) -> list[int]:
    """`count` items by their numbers, drawn with the `shares`. An item comes again only after all
    others of its source and kind have come."""
    rng = random.Random(f"judge/{seed}")
    pools: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for n, pool in enumerate(zip(sources, hard, strict=True)):
        pools[pool].append(n)
    left: dict[tuple[int, bool], list[int]] = defaultdict(list)
    order: list[int] = []
    for pool in rng.choices([*drawn], [*drawn.values()], k=count):
        if not left[pool]:
            left[pool] = rng.sample(pools[pool], len(pools[pool]))
        order.append(left[pool].pop())
    return order


def _position(key: str) -> float:
    """A place in [0, 1) that depends on the content of the prompt alone."""
    return int(key, 16) / 16 ** len(key)
