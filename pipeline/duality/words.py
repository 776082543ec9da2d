"""What was measured, in sentences that carry the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.duality.findings import Finding, Spread


def what_we_measured(findings: Sequence[Finding]) -> list[str]:
    """Sentences for the parts that were run."""

    def spread(part: str, check: str, arm: str) -> Spread | None:
        values = [
            f.value
            for f in findings
            if f.part == part
            and f.check.startswith(check)
            and f.arm.startswith(arm)
            and f.verdict != "not estimable"
            and (f.kind != "control" or part != "embedded")
        ]
        return Spread.of(values) if values else None

    told = []
    clean = spread("continuous", "1-D law of samples", "noisy descent")
    still = spread("continuous", "1-D law of samples", "no noise")
    if clean and still:
        told.append(
            "In R and R^2 descent with the right noise is indistinguishable from the policy's "
            f"flow (KS sqrt(N) {clean} on the line); without noise it is {still}, and "
            "with the noise doubled or halved, the prior dropped, or Adam in between it is "
            "told apart as surely."
        )
    chains = spread("tokens", "TV to pi* after", "suffix resampling + M")
    learned = spread("tokens", "RL: gap", "sampled RLOO")
    published = spread("tokens", "gap", "nabla decoding, published")
    null = spread("tokens", "gap", "nabla decoding, null")
    descent = spread("tokens", "TV to pi* at the fitted beta", "DTO lr")
    changed = spread("tokens", "share of responses changed", "DTO published")
    if chains and learned and published and null and descent and changed:
        told.append(
            "On enumerated responses the exact chains come within a TV of "
            f"{chains} of pi*, and RLOO within {learned} of the frontier. Nabla decoding at the "
            f"published settings stays {published} below the frontier at its own KL; the same "
            f"search with learning rate 0 stays {null} below it."
        )
        told.append(
            f"DTO at the published settings changes {changed} of the responses (their share). "
            "With larger steps its law "
            f"is a TV of {descent} away from the nearest pi*_beta: descent on tokens without "
            "noise or correction is no sampler of any KL-regularised optimum."
        )
    grpo = spread("tokens", "gap", "GRPO (TRL)")
    rest = spread("tokens", "gap", "GRPO's fixed point")
    if grpo and rest:
        told.append(
            f"GRPO through TRL ends {grpo} below the frontier. Part of that is its fixed point "
            f"({rest}): each token is penalised for its own KL alone, and the group mean "
            "contains the sample itself."
        )
    agreed = spread("embedded", "E[r] against importance sampling", "method mh")
    if agreed:
        told.append(
            "At LM scale the Metropolis sampler's mean reward is within "
            f"{agreed} standard errors of importance sampling where that is estimable."
        )
    return told
