"""What rounds of self-improvement are worth, when judge and truth part, which round to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.intervals import bounds

Bounds = tuple[float, float, float]


@dataclass(frozen=True)
class Measured:
    """A guide on the prompts measured: (reward, right or None without an answer) by prompt id,
    and mean calls."""

    scores: Mapping[str, tuple[float, float | None]]
    calls: float

    @property
    def reward(self) -> float:
        """The judge's, on average."""
        return sum(reward for reward, _ in self.scores.values()) / len(self.scores)

    @property
    def accuracy(self) -> float | None:
        """Of the prompts with an answer; None where there are none."""
        right = [correct for _, correct in self.scores.values() if correct is not None]
        return sum(right) / len(right) if right else None

    def gains(self, before: Measured) -> tuple[Bounds, Bounds | None]:
        """Of reward and of accuracy (None without answers) over another guide, paired by
        prompt."""
        shared = sorted(before.scores.keys() & self.scores.keys())
        pairs = [(before.scores[p], self.scores[p]) for p in shared]
        graded = [(o[1], n[1]) for o, n in pairs if o[1] is not None and n[1] is not None]
        reward = bounds([new[0] - old[0] for old, new in pairs])
        return reward, bounds([new - old for old, new in graded]) if graded else None


@dataclass(frozen=True)
class Round:
    """What a guide is worth on the prompts measured.

    `guide` is its folder, None for the judge as its own guide. `reward` (the judge's),
    `accuracy` (None without answers) and `calls` are means; `reward_gain` and `accuracy_gain`
    are over the round before, paired by prompt, as [mean, low, high] of a 95 % normal
    interval. `top1` is its agreement with held-out scores, `counterfactuals` what it was
    trained on. `reward_hacked`: here judge and truth part.
    """

    number: int
    guide: str | None
    reward: float
    accuracy: float | None
    calls: float
    top1: float | None
    counterfactuals: int
    reward_gain: Bounds | None = None
    accuracy_gain: Bounds | None = None
    reward_hacked: bool = False


def reward_hacked(reward_gain: Bounds, accuracy_gain: Bounds | None) -> bool:
    """Whether the judge liked a round better while its answers got worse, both clear of 0: its
    reward is no longer what it stands for."""
    return accuracy_gain is not None and reward_gain[1] > 0 and accuracy_gain[2] < 0


def choose(rounds: Sequence[Round]) -> Round:
    """The round with the most right answers (without answers, the most reward) of those before
    the reward was hacked; fewer calls break ties."""
    sound = [one for one in rounds if not one.reward_hacked]
    return max(
        sound,
        key=lambda one: (one.reward if one.accuracy is None else one.accuracy, -one.calls),
    )
