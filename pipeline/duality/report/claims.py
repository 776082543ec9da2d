"""The claims, each with the findings that decide it and the control beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.duality.findings import Finding, Spread, Verdict


@dataclass(frozen=True)
class Claim:
    """`check` and `arm` are beginnings of the names of the findings that decide; `control` is
    the beginning of the arms that must not pass the same check (None where there is none).
    """

    text: str
    part: str
    check: str
    arm: str | tuple[str, ...] = ""
    control: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Told:
    """A claim with its verdict. `number`: mean over seeds and its interval, of the check and
    arm with the smallest and with the largest mean, then the largest single number; `control`
    the smallest single number among the controls."""

    claim: Claim
    verdict: Verdict
    number: str
    threshold: str
    control: str


CLAIMS = (
    Claim("J(q) = J* - beta KL(q || pi*)", "continuous", "J* - J", source="T1"),
    Claim(
        "Noisy descent on samples carries the law exactly as the KL-RL policy flows (1-D)",
        "continuous",
        "1-D law of samples",
        "noisy descent",
        "",
        "T2",
    ),
    Claim("The same in 2-D", "continuous", "2-D law of samples", "noisy descent", "", "T2"),
    Claim(
        "A policy of quantiles that ascends J follows the same flow",
        "continuous",
        "W1 of quantile policy and Fokker-Planck, t",
        source="T2",
    ),
    Claim(
        "A finite step changes the law in first order only (distance of the order from 1)",
        "continuous",
        "distance from 1 of the order",
        source="T2",
    ),
    Claim(
        "Descent without noise carries the law as the policy flows (the claim as it is used)",
        "continuous",
        "1-D law of samples",
        "no noise",
        source="T3",
    ),
    Claim(
        "Adam with noise carries the law as the policy flows",
        "continuous",
        "1-D law of samples",
        "Adam + noise",
        source="T3",
    ),
    Claim(
        "Natural policy gradient moves along the frontier",
        "continuous",
        "gap to the frontier along the path",
        "NPG",
        "Wasserstein",
        "T4",
    ),
    Claim(
        "The path of noisy descent moves along the frontier",
        "continuous",
        "gap to the frontier along the path",
        "Wasserstein",
        source="T4",
    ),
    Claim(
        "On tokens, Metropolis-corrected kernels keep pi* (L1 in float64)",
        "tokens",
        "||pi* P - pi*||_1",
        "",
        "",
        "T5",
    ),
    Claim(
        "Such a chain, started at the reference, arrives at pi* (TV)",
        "tokens",
        "TV to pi* after",
        "",
        "",
        "T5",
    ),
    Claim(
        "Gumbel-MALA, the exact analogue of DTO, keeps pi* (TV of many chains to it)",
        "tokens",
        "started at pi*",
        "Gumbel-MALA with",
        "Gumbel-MALA no",
        "T5",
    ),
    Claim(
        "RL with the KL in the reward reaches the frontier (gap; exact gradient and RLOO)",
        "tokens",
        "RL: gap",
        "",
        "",
        "T1",
    ),
    Claim(
        "... at its own beta (relative error of the fitted beta)",
        "tokens",
        "RL: fitted beta off by",
        "",
        "",
        "T1",
    ),
    Claim(
        "GRPO's fixed point, where it would come to rest, lies on the frontier (gap)",
        "tokens",
        "gap",
        "GRPO's fixed point",
    ),
    Claim("Best of N lies on the frontier (gap)", "tokens", "gap", "best of"),
    Claim(
        "DTO at the published settings changes no token beyond Adam's reach (their share)",
        "tokens",
        "share of tokens changed beyond reach",
        "DTO published",
    ),
    Claim(
        "DTO at the published settings has a law of the form pi*_beta, any beta (TV)",
        "tokens",
        "TV to pi* at the fitted beta",
        "DTO published",
        source="paper, Thm 4.1",
    ),
    Claim(
        "DTO with larger steps, or in closed form (mirror), has such a law (TV)",
        "tokens",
        "TV to pi* at the fitted beta",
        ("DTO lr", "DTO mirror"),
        source="paper, Thm 4.1",
    ),
    Claim("DTO's law lies on the frontier (gap)", "tokens", "gap", "DTO", source="paper, Thm 4.1"),
    Claim(
        "Nabla decoding, published settings, lies on the frontier (gap)",
        "tokens",
        "gap",
        "nabla decoding, published",
        source="paper, Thm 4.1",
    ),
    Claim(
        "Nabla decoding, other settings, lies on the frontier (gap)",
        "tokens",
        "gap",
        ("nabla decoding, lr", "nabla decoding, mirror"),
        source="paper, Thm 4.1",
    ),
    Claim(
        "Nabla decoding without a gradient (null arm) lies on the frontier (gap)",
        "tokens",
        "gap",
        "nabla decoding, null",
    ),
    Claim(
        "These laws are those of Monte-Carlo runs and of the product's own loops (TV)",
        "tokens",
        "TV of",
        "",
        "",
    ),
    Claim(
        "decoding.method: mh draws from pi* at LM scale (E[r], standard errors from importance "
        "sampling)",
        "embedded",
        "E[r] against importance sampling",
        "",
        "",
        "T5",
    ),
    Claim(
        "RL on the embedded LM, as far as it was trained, lies on the frontier (gap)",
        "embedded",
        "gap to the frontier",
        "RLOO",
    ),
    Claim("The named policy lies on the frontier (gap)", "policy", "gap to the frontier", "policy"),
)


def tell(findings: Sequence[Finding], claims: Iterable[Claim] = CLAIMS) -> list[Told]:
    """Verdicts of the claims that the findings speak of, in order."""
    told = []
    for claim in claims:
        about = [f for f in findings if f.part == claim.part and f.check.startswith(claim.check)]
        named = [f for f in about if f.arm.startswith(claim.arm)]
        deciding = named if _asks_of_controls(claim) else [f for f in named if f.kind != "control"]
        if not deciding:
            continue
        controls = [
            f
            for f in about
            if claim.control is not None and f.kind == "control" and f.arm.startswith(claim.control)
        ]
        told.append(_told(claim, deciding, controls))
    return told


def _asks_of_controls(claim: Claim) -> bool:
    """Some claims are about what the stage uses as a control."""
    return claim.control is None and claim.part == "continuous" and bool(claim.arm)


def _told(claim: Claim, deciding: list[Finding], controls: list[Finding]) -> Told:
    estimable = [f for f in deciding if f.verdict != "not estimable"]
    # Where there are checks, what is only reported beside them does not decide.
    estimable = [f for f in estimable if f.kind == "positive"] or estimable
    if not estimable:
        least = min(f.value for f in deciding)
        return Told(claim, "not estimable", f"ESS {least:.0f}", f"{deciding[0].threshold:g}", "")
    verdict: Verdict = "fails" if any(f.verdict == "fails" for f in estimable) else "holds"
    groups: dict[tuple[str, str], list[float]] = {}
    for f in estimable:
        groups.setdefault((f.check, f.arm), []).append(f.value)
    spreads = sorted((Spread.of(values) for values in groups.values()), key=lambda s: s.mean)
    number = " to ".join(dict.fromkeys((str(spreads[0]), str(spreads[-1]))))
    if len(estimable) > len(groups):
        number += f" (at most {max(f.value for f in estimable):.3g})"
    bounds = [f.threshold for f in estimable if f.threshold is not None]
    threshold = " to ".join(dict.fromkeys(f"{b:.3g}" for b in (min(bounds), max(bounds))))
    shown = ""
    if controls:
        closest = min(controls, key=lambda f: f.value)
        shown = f"{closest.arm}: {closest.value:.3g}"
    return Told(claim, verdict, number, threshold, shown)
