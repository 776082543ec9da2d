"""How rounds are judged: figures of a guide, signs of reward hacking, the choice among rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.intervals import Interval, interval


class PromptResult(NamedTuple):
    """The judge's reward of a response, and whether its answer is right (1 or 0; None where the
    prompt has no answer)."""

    reward: float
    correct: float | None


@dataclass(frozen=True)
class Evaluation:
    """A guide's results on the evaluation prompts, by prompt id, and the mean number of model
    calls of a prompt, as the paper counts them."""

    results: Mapping[str, PromptResult]
    calls: float

    @property
    def reward(self) -> float:
        """The judge's mean reward."""
        return sum(result.reward for result in self.results.values()) / len(self.results)

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the prompts with an answer; None where there are none."""
        graded = [r.correct for r in self.results.values() if r.correct is not None]
        return sum(graded) / len(graded) if graded else None

    def gains(self, before: Evaluation) -> tuple[Interval, Interval | None]:
        """Of reward and of accuracy (None without answers) over an earlier evaluation, paired by
        prompt: differences between prompts are larger than those between guides."""
        shared = sorted(before.results.keys() & self.results.keys())
        pairs = [(before.results[p], self.results[p]) for p in shared]
        rewards = [new.reward - old.reward for old, new in pairs]
        accuracies = [
            new.correct - old.correct
            for old, new in pairs
            if old.correct is not None and new.correct is not None
        ]
        return interval(rewards), interval(accuracies) if accuracies else None


@dataclass(frozen=True, kw_only=True)
class Round:
    """The figures of a round's guide on the evaluation prompts.

    - `guide` is its folder, None in round 0, where the judge is its own guide.
    - `reward` (the judge's), `accuracy` (None without answers) and `calls` are means.
    - `reward_gain` and `accuracy_gain` are over the round before, paired by prompt.
    - `top1` is the guide's agreement with held-out scores, `counterfactuals` the number it was
      trained on.
    - `reward_hacked`: see the function of this name.
    """

    number: int
    guide: str | None
    reward: float
    accuracy: float | None
    calls: float
    top1: float | None
    counterfactuals: int
    reward_gain: Interval | None = None
    accuracy_gain: Interval | None = None
    reward_hacked: bool = False


def reward_hacked(reward_gain: Interval, accuracy_gain: Interval | None) -> bool:
    """Whether the reward rose while accuracy fell, both with intervals that exclude 0.

    The guide then exploits errors of the judge, and every later round would learn more of them.
    Without answers this cannot be noticed.
    """
    return accuracy_gain is not None and reward_gain.low > 0 and accuracy_gain.high < 0


def choose(rounds: Sequence[Round]) -> Round:
    """The round with the highest accuracy (without answers: the highest reward) among those
    without reward hacking; of equal ones that with fewer calls."""
    # Never a hacked round: its reward is high because the judge is wrong.
    sound = [round_ for round_ in rounds if not round_.reward_hacked]
    return max(sound, key=lambda r: (r.reward if r.accuracy is None else r.accuracy, -r.calls))
