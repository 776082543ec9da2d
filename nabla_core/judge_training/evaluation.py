"""How well rewards tell right responses from wrong ones. Plain numbers in, plain numbers out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import comb, exp

BINS = 10


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A response of a prompt with its reward and the verifier's verdict."""

    prompt: Hashable
    reward: float
    right: bool


def auc(answers: Sequence[JudgedAnswer]) -> float | None:
    """The probability that a right response has a higher reward than a wrong one (area under the
    ROC curve); ties count half. None where there are no right or no wrong ones."""
    positives = sum(a.right for a in answers)
    negatives = len(answers) - positives
    if not positives or not negatives:
        return None
    wins, below = 0.0, 0
    for group in _by_reward(answers):
        right = sum(a.right for a in group)
        wrong = len(group) - right
        wins += right * (below + wrong / 2)
        below += wrong
    return wins / (positives * negatives)


def auc_within_prompts(answers: Sequence[JudgedAnswer]) -> float | None:
    """The mean over prompts that have right and wrong responses of the AUC among them: what best
    of N needs. None where there is no such prompt."""
    found = [value for group in _by_prompt(answers) if (value := auc(group)) is not None]
    return sum(found) / len(found) if found else None


@dataclass(frozen=True, slots=True)
class Bin:
    """Responses whose sigmoid(reward) is in a tenth of [0, 1]: how many, the mean of
    sigmoid(reward), and the share of right ones."""

    count: int
    predicted: float
    right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Rewards as log-odds of being right: the Brier score, the expected calibration error (the mean
    distance between predicted and true shares over responses), and the bins that are not empty."""

    brier: float
    ece: float
    bins: tuple[Bin, ...]


def calibration(answers: Sequence[JudgedAnswer]) -> Calibration | None:
    """How far sigmoid(reward) is the probability of being right. None without responses."""
    if not answers:
        return None
    groups: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for answer in answers:
        p = sigmoid(answer.reward)
        groups[min(int(p * BINS), BINS - 1)].append((p, answer.right))
    bins = [
        Bin(
            count=len(group),
            predicted=sum(p for p, _ in group) / len(group),
            right=sum(right for _, right in group) / len(group),
        )
        for _, group in sorted(groups.items())
    ]
    pairs = [pair for group in groups.values() for pair in group]
    return Calibration(
        brier=sum((p - right) ** 2 for p, right in pairs) / len(pairs),
        ece=sum(b.count * abs(b.predicted - b.right) for b in bins) / len(pairs),
        bins=tuple(bins),
    )


def best_of_n_curve(answers: Sequence[JudgedAnswer], sizes: Iterable[int]) -> dict[int, float]:
    """Accuracy of the best of n by reward, averaged over prompts, for each n of `sizes` that no
    prompt has fewer responses than.

    Unbiased: of M responses, sorted by reward, the i-th (from 0) is the best of n drawn without
    replacement with probability C(i, n - 1) / C(M, n). Responses of equal reward share theirs.
    """
    groups = [list(_by_reward(group)) for group in _by_prompt(answers)]
    most = min((sum(map(len, ties)) for ties in groups), default=0)
    return {
        n: sum(_best_of(ties, n) for ties in groups) / len(groups) for n in sizes if 1 <= n <= most
    }


def _best_of(ties: Sequence[Sequence[JudgedAnswer]], n: int) -> float:
    """The probability that the best of n is right; `ties` are the responses of a prompt by
    reward."""
    total = comb(sum(map(len, ties)), n)
    accuracy, below = 0.0, 0
    for group in ties:
        # Of the draws whose best is in this group, each member has the same share.
        share = (comb(below + len(group), n) - comb(below, n)) / total
        accuracy += share * sum(a.right for a in group) / len(group)
        below += len(group)
    return accuracy


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 1 / (1 + exp(-value)) if value >= 0 else exp(value) / (1 + exp(value))


def _by_reward(answers: Iterable[JudgedAnswer]) -> Iterable[list[JudgedAnswer]]:
    """The responses in groups of equal reward, in ascending order."""
    groups: dict[float, list[JudgedAnswer]] = defaultdict(list)
    for answer in answers:
        groups[answer.reward].append(answer)
    return [groups[reward] for reward in sorted(groups)]


def _by_prompt(answers: Iterable[JudgedAnswer]) -> Iterable[list[JudgedAnswer]]:
    groups: dict[Hashable, list[JudgedAnswer]] = defaultdict(list)
    for answer in answers:
        groups[answer.prompt].append(answer)
    return groups.values()
