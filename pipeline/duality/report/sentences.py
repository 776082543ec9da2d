"""The sentences "What we measured" of the report, with their numbers: means over seeds with
95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.duality import names
from pipeline.duality.findings import Finding, Kind, SeedMean


class _NotMeasured(Exception):
    """This run has no such number; its sentence is left out."""


@dataclass(frozen=True)
class _Numbers:
    """Looks numbers up in the findings. Raises _NotMeasured where there are none."""

    findings: Sequence[Finding]

    def mean(self, part: str, check: str, arm: str, *, digits: int = 2) -> str:
        """Mean and interval of the check with this name, of arms whose names begin so."""
        values = [
            f.value
            for f in self.findings
            if f.part == part
            and f.check == check
            and f.arm.startswith(arm)
            and f.verdict != "not estimable"
        ]
        if not values:
            raise _NotMeasured
        result = SeedMean.of(values)
        mean = f"{result.mean:.{digits}f}"
        return mean if result.half_width == 0 else f"{mean} ± {result.half_width:.{digits}f}"

    def range(self, part: str, check: str, arm: str, kind: Kind, *, digits: int = 2) -> str:
        """The smallest and the largest mean over seeds, of checks and arms whose names begin
        so."""
        groups: dict[tuple[str, str], list[float]] = {}
        for f in self.findings:
            named = f.part == part and f.check.startswith(check) and f.arm.startswith(arm)
            if named and f.kind == kind and f.verdict != "not estimable":
                groups.setdefault((f.check, f.arm), []).append(f.value)
        if not groups:
            raise _NotMeasured
        means = sorted(SeedMean.of(values).mean for values in groups.values())
        low, high = f"{means[0]:.{digits}f}", f"{means[-1]:.{digits}f}"
        return low if low == high else f"{low} to {high}"


def what_we_measured(findings: Sequence[Finding]) -> list[str]:
    """The sentences for the parts that were run."""
    # Sentences state numbers and not conclusions: a check behind a conclusion may have failed.
    numbers = _Numbers(findings)
    # In the order of the claims.
    sentences = []
    for sentence in (
        _noise,
        _chains,
        _rl,
        _grpo,
        _dto_published,
        _dto_other,
        _nabla,
        _mh,
        _mh_not_converged,
        _rloo,
        _accuracy,
    ):
        try:
            sentences.append(sentence(numbers))
        except _NotMeasured:
            continue
    return sentences


def _noise(n: _Numbers) -> str:
    part, law = "continuous", names.LAW_1D
    return (
        "In 1-D the KS statistic (times sqrt(N)) between samples and policy is "
        f"{n.range(part, law, 'noisy descent', 'positive')} over four times, for gradient descent "
        "with the right noise. Without noise it is "
        f"{n.range(part, law, 'no noise', 'control', digits=0)}, with doubled noise "
        f"{n.range(part, law, 'noise x2', 'control', digits=0)}, and with Adam "
        f"{n.range(part, law, 'Adam', 'control', digits=0)}, growing with time."
    )


def _chains(n: _Numbers) -> str:
    gumbel = n.range("tokens", names.GUMBEL_TV, "Gumbel-MALA with ", "positive", digits=3)
    return (
        "On enumerated responses, Markov chains with a Metropolis test end at a TV of "
        f"{n.range('tokens', names.TV_AFTER, '', 'positive', digits=4)} to pi*. The same proposals "
        "without the test, or with another beta, end at a TV of "
        f"{n.range('tokens', names.TV_AFTER, '', 'control')}. Gumbel-MALA, the exact analogue of "
        f"DTO, is started at pi* and ends at a TV of {gumbel} to it; the threshold is the TV of as "
        "many exact draws. Its acceptance rate with the gradient of the reward is "
        f"{n.mean('tokens', names.ACCEPTANCE, 'Gumbel-MALA with gradient')}, without it "
        f"{n.mean('tokens', names.ACCEPTANCE, 'Gumbel-MALA without')}."
    )


def _rl(n: _Numbers) -> str:
    gap = names.RL_GAP
    return (
        "RL with the KL in the reward has a gap to the frontier of "
        f"{n.range('tokens', gap, 'exact-gradient', 'positive', digits=3)} with exact gradients "
        f"and {n.range('tokens', gap, 'sampled RLOO', 'positive', digits=3)} with sampled RLOO. "
        "The relative error of the fitted beta is "
        f"{n.range('tokens', names.RL_BETA, '', 'positive', digits=3)}."
    )


def _grpo(n: _Numbers) -> str:
    fixed_point = "GRPO's fixed point"
    return (
        "The fixed point of GRPO, which is known exactly, lies "
        f"{n.range('tokens', names.GAP, fixed_point, 'report', digits=3)} below the frontier: each "
        "token is penalised for its own KL only, and the group mean contains the sample itself. "
        "The policy that TRL trained lies "
        f"{n.range('tokens', names.GAP, 'GRPO (TRL)', 'report', digits=3)} below the frontier, "
        f"at a TV of {n.range('tokens', names.GRPO_TV, 'GRPO (TRL)', 'report')} from its own "
        "fixed point: it has not converged and shows no limit."
    )


def _dto_published(n: _Numbers) -> str:
    arm = "DTO published"
    return (
        "DTO at the published settings changes a share of "
        f"{n.mean('tokens', names.RESPONSES_CHANGED, arm)} of the responses and "
        f"{n.mean('tokens', names.TOKENS_CHANGED, arm, digits=3)} of the tokens. The size of the "
        "reward does not matter: Adam moves a logit by at most about the sum of its learning "
        f"rates, here by {n.mean('tokens', names.LARGEST_MOVE, arm, digits=3)}, for any size of "
        "the gradient. So a token can change only where the two best logits of the LM differ by "
        f"at most twice that. This is so for {n.mean('tokens', names.IN_REACH, arm)} of the "
        "tokens of these random LMs (the median margin of the best logit is "
        f"{n.mean('tokens', names.MEDIAN_MARGIN, arm)}), and no other token changed. With an LM "
        "that is confident of its tokens, DTO is nearly the identity" + _embedded_reach(n)
    )


def _embedded_reach(n: _Numbers) -> str:
    try:
        share = n.mean("language", names.IN_REACH, "DTO published", digits=4)
    except _NotMeasured:
        return "."
    return f": only {share} of the tokens of the embedded LM are within reach."


def _dto_other(n: _Numbers) -> str:
    tv = names.FITTED_TV
    return (
        "With larger steps the distribution of DTO has a TV of "
        f"{n.range('tokens', tv, 'DTO lr', 'report')} to the nearest pi*_beta, in closed form "
        f"{n.range('tokens', tv, 'DTO mirror', 'report')}. Over all settings it lies "
        f"{n.range('tokens', names.GAP, 'DTO', 'report')} below the frontier. So gradient descent "
        "on tokens without noise or Metropolis test does not sample a KL-regularised optimum."
    )


def _nabla(n: _Numbers) -> str:
    gap = names.GAP
    return (
        "Nabla decoding at the published settings lies "
        f"{n.mean('tokens', gap, 'nabla decoding, published')} below the frontier at its own KL; "
        "the same search with learning rate 0 lies "
        f"{n.mean('tokens', gap, 'nabla decoding, null')} below it. Its gain comes from "
        "redrawing and accepting, not from the gradient. With larger steps the gap is "
        f"{n.range('tokens', gap, 'nabla decoding, lr', 'report')}, with the mirror step "
        f"{n.mean('tokens', gap, 'nabla decoding, mirror')}."
    )


def _mh(n: _Numbers) -> str:
    error = names.MH_ERROR
    return (
        "On the embedded LM, E[r] of method mh at the largest beta differs by "
        f"{n.range('language', error, 'method mh', 'positive')} standard errors from importance "
        "sampling of pi* (mean over seeds). Chains at half the beta, and the reference itself, "
        f"differ by {n.range('language', error, '', 'control', digits=1)} standard errors."
    )


def _mh_not_converged(n: _Numbers) -> str:
    drift = names.MH_DRIFT
    return (
        "At smaller betas the same number of steps is too small, so nothing is required there. "
        "Between half of the steps and all steps, E[r] still moves by "
        f"{n.range('language', drift, 'method mh', 'report', digits=1)} standard errors (at the "
        f"largest beta by {n.range('language', drift, 'method mh', 'positive', digits=1)}). At "
        "the end it differs by "
        f"{n.range('language', names.MH_ERROR, 'method mh', 'report', digits=1)} standard errors "
        "from importance sampling."
    )


def _rloo(n: _Numbers) -> str:
    part = "language"
    arms = sorted({f.arm for f in n.findings if f.part == part and f.arm.startswith("RLOO")})
    if not arms:
        raise _NotMeasured
    gains = []
    for arm in arms:
        beta = arm.rsplit(" ", 1)[1]
        gain = n.mean(part, names.above_reference(names.REWARD), arm)
        gains.append(f"{gain} at KL {n.mean(part, names.KL, arm)} (beta {beta})")
    return (
        "RLOO on the embedded LM has more E[r] than the reference: by "
        + ", ".join(gains)
        + ". It was trained once, for few steps, and has not converged. Where its gap can be "
        "estimated, it lies below the frontier; this is no measure of what RL can reach."
    )


def _accuracy(n: _Numbers) -> str:
    part = "language"

    def both(arm: str) -> str:
        reward = n.mean(part, names.above_reference(names.REWARD), arm)
        accuracy = n.mean(part, names.above_reference(names.ACCURACY), arm, digits=3)
        return f"{reward} and {accuracy}"

    return (
        "Reward is not accuracy. The gains over the reference in E[r] and in accuracy are: best "
        f"of 64: {both('best of 64')}; nabla decoding (ranked, sampled rollouts): "
        f"{both('nabla, ranked, sampled')}; the same without a gradient: {both('null arm')}; nabla "
        f"decoding at the published settings: {both('nabla, published')}; mh at beta 1: "
        f"{both('method mh, beta 1')}. The reference has E[r] "
        f"{n.mean(part, names.REWARD, 'reference LM')} and accuracy "
        f"{n.mean(part, names.ACCURACY, 'reference LM')}. The intervals are over sets of prompts."
    )
