"""Records the arms of a language model as findings: reward, KL or bounds of it, and gap."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.language.estimators import (
    REQUIRED_ESS,
    Bounds,
    Estimate,
    OptimumEstimate,
    kl_bounds,
)
from pipeline.duality.thresholds import MAX_GAP

# Betas at which the KL of samplers is bounded from below, beside those of the settings.
BOUND_BETAS = (16.0, 8.0, 6.0, 4.0, 3.0)


@dataclass(eq=False)
class ArmRecorder:
    """Adds arms to `results`.

    `reference`: rewards `[P, M]` of the reference's responses. `optima`: estimates of pi*_beta
    from them by importance sampling, from the largest beta to the smallest. `baseline`: the
    reference's own numbers, once it is recorded. An arm's difference to them varies less from
    prompt to prompt than the number itself.
    """

    results: PartResults
    reference: Tensor
    optima: Mapping[float, OptimumEstimate]
    seed: int
    baseline: dict[str, float] = field(default_factory=dict)

    def frontier(self) -> None:
        """Record the points of the frontier that can be estimated, and why others cannot."""
        points = []
        for beta, optimum in self.optima.items():
            arm = f"pi*, beta {beta:g}"
            share = float(optimum.estimable.double().mean())
            self._report("share of prompts where pi* is estimable", arm, share)
            if not optimum.estimable.all():
                self._not_estimable(f"{names.KL} (value: smallest ESS)", arm, optimum)
                continue
            divergence, reward = optimum.point()
            self._estimate(names.KL, arm, divergence)
            self._estimate(names.REWARD, arm, reward)
            difference = reward.value - float(self.reference.mean())
            self._report(names.above_reference(names.REWARD), arm, difference)
            points.append((beta, divergence, reward))
        self.results.plot_data["frontier"] = points

    def with_density(
        self, arm: str, divergence: Estimate, numbers: Mapping[str, Estimate], *, gap: bool
    ) -> None:
        """Record an arm that has log-probabilities, and so an estimate of its KL."""
        self._estimate(names.KL, arm, divergence)
        self._numbers(arm, numbers)
        if gap:
            self._gap(arm, divergence, numbers[names.REWARD])

    def without_density(
        self, arm: str, rewards: Tensor, log_ref: Tensor, numbers: Mapping[str, Estimate]
    ) -> None:
        """Record an arm without log-probabilities; rewards and log_ref `[P, S]`."""
        bounds = kl_bounds(rewards, log_ref, self.reference, self._estimable())
        self.with_bounds(arm, bounds, numbers)

    def with_bounds(self, arm: str, bounds: Bounds, numbers: Mapping[str, Estimate]) -> None:
        """Record an arm whose KL is known to lie between two numbers."""
        self._report(names.KL_LOW, arm, bounds.low)
        self._report(names.KL_HIGH, arm, bounds.high)
        self._numbers(arm, numbers)

    def variational_bound(self, reward: Estimate) -> float:
        """sup_beta (E[r] - J*_beta) / beta, over betas estimable on all prompts; at least 0.

        A lower bound of the KL, because J(q) = E_q[r] - beta KL(q || p_ref) <= J*_beta.
        """
        # With the lower end of the interval of E[r], the bound holds in about 97.5 % of cases.
        low = reward.value - reward.half_width
        return max([0.0, *(low / o.beta - float(o.log_z.mean()) for o in self._estimable())])

    def _estimable(self) -> list[OptimumEstimate]:
        return [o for o in self.optima.values() if o.estimable.all()]

    def _numbers(self, arm: str, numbers: Mapping[str, Estimate]) -> None:
        if arm.startswith("reference"):
            self.baseline = {check: estimate.value for check, estimate in numbers.items()}
        for check, estimate in numbers.items():
            self._estimate(check, arm, estimate)
            if check in (names.REWARD, names.ACCURACY) and check in self.baseline:
                difference = estimate.value - self.baseline[check]
                self._report(names.above_reference(check), arm, difference)

    def _gap(self, arm: str, divergence: Estimate, reward: Estimate) -> None:
        """Frontier E[r] at the arm's KL minus its E[r].

        The frontier is interpolated between its estimable points, never extrapolated: without
        points on both sides there is no gap. It is concave, so the gap is not overestimated.
        """
        # The reference itself is the point at KL 0.
        points = [(0.0, float(self.reference.mean()))]
        points += [(d.value, r.value) for _, d, r in self.results.plot_data["frontier"]]
        points.sort()
        for (left, low), (right, high) in itertools.pairwise(points):
            if left <= divergence.value <= right:
                share = (divergence.value - left) / (right - left)
                gap = low + share * (high - low) - reward.value
                self.results.report(names.GAP, arm, self.seed, gap, MAX_GAP)
                self._report(names.half_width(names.GAP), arm, reward.half_width)
                return
        worst = min(self.optima.values(), key=lambda o: float(o.ess.min()))
        self._not_estimable(f"{names.GAP} (value: smallest ESS)", arm, worst)

    def _report(self, check: str, arm: str, value: float) -> None:
        self.results.report(check, arm, self.seed, value)

    def _estimate(self, check: str, arm: str, estimate: Estimate) -> None:
        self._report(check, arm, estimate.value)
        self._report(names.half_width(check), arm, estimate.half_width)

    def _not_estimable(self, check: str, arm: str, optimum: OptimumEstimate) -> None:
        ess = float(optimum.ess.min())
        self.results.not_estimable(check, arm, self.seed, ess, REQUIRED_ESS)
