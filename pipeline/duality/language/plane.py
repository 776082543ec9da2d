"""Arms of a language model in the reward-KL plane: into the findings and into the plot."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pipeline.duality.findings import Book
from pipeline.duality.language.estimators import LEAST_ESS, Bounds, Estimate, Optimum, kl_bounds
from pipeline.duality.tokens.placement import GAP

# Betas that bound the KL of samplers from below, beside those asked for.
LADDER = (16.0, 8.0, 6.0, 4.0, 3.0)


@dataclass(eq=False)
class Plane:
    """`reference` are the rewards `[P, M]` of the reference's responses, `optima` what they
    say of pi*_beta by importance sampling, by falling beta. `base` are the reference's own
    numbers, from when it is entered: what arms gain over it varies less with the prompts."""

    book: Book
    reference: Tensor
    optima: Mapping[float, Optimum]
    seed: int
    base: dict[str, float] = field(default_factory=dict)

    def frontier(self) -> None:
        """The points of the frontier that can be estimated; of the others, why not."""
        points = []
        for beta, found in self.optima.items():
            arm = f"pi*, beta {beta:g}"
            share = float(found.estimable.double().mean())
            self._report("share of prompts where pi* is estimable", arm, share)
            if not found.estimable.all():
                self._not_estimable("KL to the reference (value: smallest ESS)", arm, found)
                continue
            divergence, reward = found.point()
            self._estimate("KL to the reference", arm, divergence)
            self._estimate("E[r]", arm, reward)
            self._report(above("E[r]"), arm, reward.value - float(self.reference.mean()))
            points.append((beta, divergence, reward))
        self.book.figures["frontier"] = points

    def density(
        self, arm: str, divergence: Estimate, numbers: Mapping[str, Estimate], *, gap: bool
    ) -> None:
        """An arm that knows its own log-probabilities, and so its KL."""
        self._estimate("KL to the reference", arm, divergence)
        self._enter(arm, numbers)
        if gap:
            self._gap(arm, divergence, numbers["E[r]"])

    def sampler(
        self, arm: str, rewards: Tensor, log_ref: Tensor, numbers: Mapping[str, Estimate]
    ) -> None:
        """An arm without a density; rewards and log_ref `[P, S]`."""
        self.between(arm, kl_bounds(rewards, log_ref, self.reference, self._usable()), numbers)

    def between(self, arm: str, bounds: Bounds, numbers: Mapping[str, Estimate]) -> None:
        """An arm whose KL is known to lie between two numbers."""
        self._report("KL to the reference, at least", arm, bounds.low)
        self._report("KL to the reference, at most", arm, bounds.high)
        self._enter(arm, numbers)

    def variational_bound(self, reward: Estimate) -> float:
        """sup_beta (E[r] - J*_beta) / beta, over betas estimable on all prompts; at least 0."""
        low = reward.value - reward.half
        return max([0.0, *(low / o.beta - float(o.log_z.mean()) for o in self._usable())])

    def _usable(self) -> list[Optimum]:
        return [o for o in self.optima.values() if o.estimable.all()]

    def _enter(self, arm: str, numbers: Mapping[str, Estimate]) -> None:
        if arm.startswith("reference"):
            self.base = {check: estimate.value for check, estimate in numbers.items()}
        for check, estimate in numbers.items():
            self._estimate(check, arm, estimate)
            if check in ("E[r]", "accuracy") and check in self.base:
                self._report(above(check), arm, estimate.value - self.base[check])

    def _gap(self, arm: str, divergence: Estimate, reward: Estimate) -> None:
        """Frontier E[r] at the arm's KL minus its E[r], between frontier points on both sides."""
        points = [(0.0, float(self.reference.mean()))]
        points += [(d.value, r.value) for _, d, r in self.book.figures["frontier"]]
        points.sort()
        for (left, low), (right, high) in itertools.pairwise(points):
            if left <= divergence.value <= right:
                share = (divergence.value - left) / (right - left)
                gap = low + share * (high - low) - reward.value
                self.book.report("gap to the frontier", arm, self.seed, gap, GAP)
                self._report("gap to the frontier, half of the 95 % interval", arm, reward.half)
                return
        worst = min(self.optima.values(), key=lambda o: float(o.ess.min()))
        self._not_estimable("gap to the frontier (value: smallest ESS)", arm, worst)

    def _report(self, check: str, arm: str, value: float) -> None:
        self.book.report(check, arm, self.seed, value)

    def _estimate(self, check: str, arm: str, estimate: Estimate) -> None:
        self._report(check, arm, estimate.value)
        self._report(f"{check}, half of the 95 % interval", arm, estimate.half)

    def _not_estimable(self, check: str, arm: str, found: Optimum) -> None:
        self.book.not_estimable(check, arm, self.seed, float(found.ess.min()), LEAST_ESS)


def above(check: str) -> str:
    """The name of the check that takes the reference's number off."""
    return f"{check} above the reference's"
