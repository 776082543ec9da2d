"""How rounds are judged: their figures, signs of reward hacking, whether what they trained is used,
and the choice among rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.improve.evaluation import Evaluation, Gains
from pipeline.improve.yielded import Yielded
from pipeline.intervals import Interval

# What a round trains.
Trained = Literal["lm", "judge", "guide"]
# How the models of a round answer best: as `decoding` says, or the LM alone.
Way = Literal["decoding", "greedy"]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Means over the evaluation prompts: the judge's `reward`, `accuracy` (None without answers)
    and `calls` of a prompt."""

    reward: float
    accuracy: float | None
    calls: float

    @classmethod
    def of(cls, evaluation: Evaluation) -> Figures:
        """The means of an evaluation."""
        return cls(reward=evaluation.reward, accuracy=evaluation.accuracy, calls=evaluation.calls)


@dataclass(frozen=True, kw_only=True)
class Use:
    """Whether something that a round trained is used further, the `reason`, and what it gained on
    the validation prompts."""

    used: bool
    reason: str
    gain: Interval


@dataclass(frozen=True, kw_only=True)
class Round:
    """The models of a round, and their figures on the evaluation prompts.

    - `lm`, `judge` and `guide` are what the round has trained, or else used: as the config names
      them, or folders. `guide` is None where the judge is its own guide.
    - `reward` (the judge's), `accuracy` (None without answers) and `calls` are means under
      `decoding`; `greedy` are those of the LM alone.
    - `reward_gain` (None where the judge is another) and `accuracy_gain` are over the round before,
      paired by prompt. `greedy_gain` is that of the LM's own accuracy, `search_gain` that of
      `decoding` over the LM alone.
    - `top1` is the guide's agreement with held-out scores, `counterfactuals` the number it was
      trained on, `distilled` the number of rows that the LM was trained on.
    - `used`: of what was trained, whether it is used further. `way`: how the models answer best.
    - `yields`: of the ways to generate, with the models of the round before.
    - `reward_hacked`: see the function of this name.
    """

    number: int
    lm: str | None = None
    judge: str | None = None
    guide: str | None
    reward: float
    accuracy: float | None
    calls: float
    greedy: Figures | None = None
    top1: float | None = None
    counterfactuals: int = 0
    distilled: int = 0
    reward_gain: Interval | None = None
    accuracy_gain: Interval | None = None
    greedy_gain: Interval | None = None
    search_gain: Interval | None = None
    used: Mapping[Trained, Use] = field(default_factory=dict)
    way: Way = "decoding"
    yields: Mapping[str, Yielded] = field(default_factory=dict)
    reward_hacked: bool = False

    @property
    def best(self) -> Figures:
        """The figures of the way in which the models answer best."""
        if self.way == "greedy" and self.greedy is not None:
            return self.greedy
        return Figures(reward=self.reward, accuracy=self.accuracy, calls=self.calls)


def reward_hacked(reward_gain: Interval | None, accuracy_gain: Interval | None) -> bool:
    """Whether the reward rose while accuracy fell, both with intervals that exclude 0.

    The guide then exploits errors of the judge, and every later round would learn more of them.
    Without answers this cannot be noticed.
    """
    if reward_gain is None or accuracy_gain is None:
        return False
    return reward_gain.low > 0 and accuracy_gain.high < 0


def use_of(gains: Gains, than: str) -> Use:
    """Whether something is used further that has these gains on the validation prompts: unless it
    is worse, with an interval below 0, by accuracy, or by reward where there are no answers.
    `than`: what it was compared with."""
    what = "reward" if gains.accuracy is None else "accuracy"
    gain = gains.reward if gains.accuracy is None else gains.accuracy
    used = gain.high >= 0
    verdict = "above" if gain.low > 0 else "below" if not used else "not clearly different from"
    bounds = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    return Use(used=used, reason=f"{what} is {verdict} that of {than}: {bounds}", gain=gain)


def choose(rounds: Sequence[Round]) -> Round:
    """The round with the highest accuracy (without answers: the highest reward), of the way in
    which its models answer best, among those without reward hacking; of equal ones that with fewer
    calls."""
    # Never a hacked round: its reward is high because the judge is wrong.
    sound = [round_ for round_ in rounds if not round_.reward_hacked]

    def merit(round_: Round) -> tuple[float, float]:
        best = round_.best
        return best.reward if best.accuracy is None else best.accuracy, -best.calls

    return max(sound, key=merit)
