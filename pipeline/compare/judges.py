"""What rewards are worth in an arm: do they tell right from wrong, also those of a second judge,
which had no part in the search? A judge favours what was chosen by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from nabla_core.judge_training.evaluation import JudgedAnswer, auc
from pipeline.compare.config import Bootstrap
from pipeline.compare.results import Response, Results
from pipeline.compare.statistics import mean
from pipeline.intervals import Interval

Pairs = list[tuple[str, Response]]
Reward = Callable[[Response], float | None]


@dataclass(frozen=True, kw_only=True)
class Judging:
    """The rewards of an arm beside its answers.

    - `auc`: the probability that a right response has a higher reward than a wrong one; None where
      all are right or all wrong, or nothing is graded. `second_*`: of the second judge; None
      without one. `unread`: the share of responses that it cannot read.
    - `by_length`: `auc` and `second_auc` in quarters of the arm's responses by length.
    - `broken` and `mended`: of the accepted revisions, the share that made a right answer wrong,
      and a wrong one right.
    """

    auc: float | None
    second_reward: Interval | None
    second_auc: float | None
    unread: float
    by_length: Mapping[str, tuple[float | None, float | None]]
    broken: float | None
    mended: float | None


def judging(arm: Results, prompts: Sequence[str], second: bool, settings: Bootstrap) -> Judging:
    """`second`: there is a second judge."""
    pairs = [(p, r) for p in prompts for r in arm.responses[p]]
    unread = [r.read is None or r.read.second_reward is None for _, r in pairs]
    by_prompt = [
        [v for r in arm.responses[p] if (v := second_reward(r)) is not None] for p in prompts
    ]
    means = [fmean(values) for values in by_prompt if values]
    broken, mended = _accepted(pairs)
    return Judging(
        auc=_auc(pairs, first_reward),
        second_reward=mean(means, settings) if second and means else None,
        second_auc=_auc(pairs, second_reward),
        unread=fmean(unread) if second else 0.0,
        by_length={
            name: (_auc(part, first_reward), _auc(part, second_reward))
            for name, part in _quarters(pairs)
        },
        broken=broken,
        mended=mended,
    )


def first_reward(response: Response) -> float | None:
    return response.reward


def second_reward(response: Response) -> float | None:
    return None if response.read is None else response.read.second_reward


def _auc(pairs: Pairs, reward: Reward) -> float | None:
    return auc(
        [
            JudgedAnswer(prompt, value, response.correct)
            for prompt, response in pairs
            if response.correct is not None and (value := reward(response)) is not None
        ]
    )


def _quarters(pairs: Pairs) -> list[tuple[str, Pairs]]:
    ordered = sorted(pairs, key=lambda pair: (pair[1].tokens, pair[0], pair[1].sample))
    parts = [ordered[len(ordered) * n // 4 : len(ordered) * (n + 1) // 4] for n in range(4)]
    return [
        (f"quarter {n} ({part[0][1].tokens} to {part[-1][1].tokens} tokens)", part)
        for n, part in enumerate(parts, 1)
        if part
    ]


def _accepted(pairs: Pairs) -> tuple[float | None, float | None]:
    steps = [
        (before, after)
        for _, response in pairs
        if response.read is not None and response.read.stages is not None
        for before, after in zip(response.read.stages[:-1], response.read.stages[1:], strict=True)
    ]
    if not steps:
        return None, None
    return (
        fmean(before and not after for before, after in steps),
        fmean(after and not before for before, after in steps),
    )
