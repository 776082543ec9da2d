"""The verdicts on the claims, from the findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.duality.findings import CheckVerdict, Finding, SeedMean
from pipeline.duality.report.claims import CLAIMS, Claim


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """A claim with its verdict.

    `number`: mean over seeds with its interval, of the check and arm with the smallest mean
    and of that with the largest, then the largest single value. `control`: the smallest single
    value among the controls.
    """

    claim: Claim
    verdict: CheckVerdict
    number: str
    threshold: str
    control: str = ""


def judge_claims(
    findings: Sequence[Finding], claims: Iterable[Claim] = CLAIMS
) -> list[ClaimResult]:
    """The claims that some finding decides, in order, with their verdicts."""
    results = []
    for claim in claims:
        # A finding without a threshold decides nothing.
        about = [
            f
            for f in findings
            if f.part == claim.part and f.check.startswith(claim.check) and f.verdict != "reported"
        ]
        named = [f for f in about if f.arm.startswith(claim.arm)]
        deciding = [f for f in named if claim.about_controls or f.kind != "control"]
        if not deciding:
            continue
        controls = [
            f
            for f in about
            if claim.control is not None and f.kind == "control" and f.arm.startswith(claim.control)
        ]
        results.append(_judge(claim, deciding, controls))
    return results


def _judge(claim: Claim, deciding: list[Finding], controls: list[Finding]) -> ClaimResult:
    estimable = [f for f in deciding if f.verdict != "not estimable"]
    # Where there are positive checks, findings that are only reported do not decide.
    estimable = [f for f in estimable if f.kind == "positive"] or estimable
    if not estimable:
        ess = min(f.value for f in deciding)
        return ClaimResult(
            claim=claim,
            verdict="not estimable",
            number=f"ESS {ess:.0f}",
            threshold=f"{deciding[0].threshold:g}",
        )
    verdict: CheckVerdict = "fails" if any(f.verdict == "fails" for f in estimable) else "holds"
    groups: dict[tuple[str, str], list[float]] = {}
    for f in estimable:
        groups.setdefault((f.check, f.arm), []).append(f.value)
    means = sorted((SeedMean.of(values) for values in groups.values()), key=lambda s: s.mean)
    number = " to ".join(dict.fromkeys((str(means[0]), str(means[-1]))))
    # Several seeds: the mean alone would hide the worst one.
    if len(estimable) > len(groups):
        number += f" (at most {max(f.value for f in estimable):.3g})"
    bounds = [f.threshold for f in estimable if f.threshold is not None]
    threshold = " to ".join(dict.fromkeys(f"{b:.3g}" for b in (min(bounds), max(bounds))))
    control = ""
    if controls:
        closest = min(controls, key=lambda f: f.value)
        control = f"{closest.arm}: {closest.value:.3g}"
    return ClaimResult(
        claim=claim, verdict=verdict, number=number, threshold=threshold, control=control
    )
