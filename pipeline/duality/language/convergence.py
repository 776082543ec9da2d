"""When is a KL-regularised policy trained to the end? J on held-out prompts, and when it stops
rising.

At the optimum r - beta log(pi / p_ref) is the same for every response to a prompt. Its variance
among the responses of one prompt therefore tells how far a policy is from it:
J* - J = beta KL(policy || pi*), and close to pi* that is about variance / (2 beta).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pipeline.duality.language.embedded_models import Sample
from pipeline.duality.language.estimators import Estimate, mean_over_prompts


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A policy on held-out prompts: means over them, with standard errors for these prompts.

    `shortfall`: variance / (2 beta) of r - beta log(pi / p_ref) among the responses to a prompt,
    about what J lacks to J*.
    """

    step: int
    learning_rate: float
    objective: Estimate
    reward: Estimate
    kl: Estimate
    accuracy: Estimate
    shortfall: float


def evaluate(
    sample: Sample, beta: float, *, step: int, learning_rate: float
) -> tuple[Evaluation, Tensor]:
    """The figures of a policy from its sample, and J of each prompt `[P]`. Raises ValueError if the
    sample has fewer than two responses a prompt or no log-probabilities."""
    if sample.log_q is None or sample.reward.size(1) < 2:
        raise ValueError("J needs log-probabilities and two responses a prompt at least")
    divergence = sample.log_q - sample.log_ref
    regularised = sample.reward - beta * divergence
    found = Evaluation(
        step=step,
        learning_rate=learning_rate,
        objective=mean_over_prompts(regularised),
        reward=mean_over_prompts(sample.reward),
        kl=mean_over_prompts(divergence),
        accuracy=mean_over_prompts(sample.correct.double()),
        shortfall=float(regularised.var(1).mean()) / (2 * beta),
    )
    return found, regularised.mean(1)


@dataclass(kw_only=True)
class Plateau:
    """The stop rule. An evaluation gains if J is above that of the best one by more than the
    standard error of the difference, paired by prompt. After `patience` evaluations in a row
    without a gain the learning `rate` is cut by `factor`; when that has been done `cuts` times and
    there is no gain again, J has stopped rising. `best` is J of each prompt at the best evaluation.
    """

    patience: int
    cuts: int
    factor: float
    rate: float
    best: Tensor | None = None
    waited: int = 0
    made: int = 0

    def gains(self, objective: Tensor) -> bool:
        """Take J of each prompt `[P]` at the next evaluation. True if it is the best so far."""
        if self.best is None or _gain(objective, self.best):
            self.best, self.waited = objective, 0
            return True
        self.waited += 1
        if self.waited >= self.patience:
            self.made, self.waited = self.made + 1, 0
            self.rate /= self.factor
        return False

    @property
    def stopped(self) -> bool:
        """Whether J has stopped rising."""
        return self.made > self.cuts


def _gain(new: Tensor, old: Tensor) -> bool:
    difference = new - old
    error = difference.std() / len(difference) ** 0.5
    return bool(difference.mean() > error)
