"""What was measured, in sentences that carry the numbers: means over seeds with 95 %
intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.duality.findings import Finding, Spread
from pipeline.duality.language.plane import above


class _Unsaid(Exception):
    """A number that this run did not make: the sentence is left out."""


@dataclass(frozen=True)
class _Numbers:
    findings: Sequence[Finding]

    def __call__(self, part: str, check: str, arm: str, *, digits: int = 2) -> str:
        """Mean and interval of a check (whole name) of the arms that begin so."""
        here = [
            f.value
            for f in self.findings
            if f.part == part
            and f.check == check
            and f.arm.startswith(arm)
            and f.verdict != "not estimable"
        ]
        if not here:
            raise _Unsaid
        found = Spread.of(here)
        shown = f"{found.mean:.{digits}f}"
        return shown if found.half == 0 else f"{shown} ± {found.half:.{digits}f}"

    def groups(self, part: str, check: str, arm: str, kind: str, *, digits: int = 2) -> str:
        """The least and the largest mean over seeds of the checks and arms that begin so."""
        groups: dict[tuple[str, str], list[float]] = {}
        for f in self.findings:
            named = f.part == part and f.check.startswith(check) and f.arm.startswith(arm)
            if named and f.kind == kind and f.verdict != "not estimable":
                groups.setdefault((f.check, f.arm), []).append(f.value)
        if not groups:
            raise _Unsaid
        means = sorted(Spread.of(values).mean for values in groups.values())
        low, high = f"{means[0]:.{digits}f}", f"{means[-1]:.{digits}f}"
        return low if low == high else f"{low} to {high}"


def what_we_measured(findings: Sequence[Finding]) -> list[str]:
    """Sentences for the parts that were run."""
    told = []
    for sentence in (
        _continuous,
        _chains,
        _rl,
        _grpo,
        _published,
        _larger,
        _nabla,
        _sampler,
        _settled,
        _language,
        _hacked,
    ):
        try:
            told.append(sentence(_Numbers(findings)))
        except _Unsaid:
            continue
    return told


def _continuous(n: _Numbers) -> str:
    law = "1-D law of samples"
    return (
        "In R and R^2 descent with the right noise cannot be told from the policy's flow (KS "
        f"sqrt(N) {n.groups('continuous', law, 'noisy descent', 'positive')} on the line over "
        "four times). Without noise it is "
        f"{n.groups('continuous', law, 'no noise', 'control', digits=0)}; with the noise doubled "
        f"{n.groups('continuous', law, 'noise x2', 'control', digits=0)}, with Adam in between "
        f"{n.groups('continuous', law, 'Adam', 'control', digits=0)}, rising with time."
    )


def _chains(n: _Numbers) -> str:
    gumbel = n.groups("tokens", "started at pi*", "Gumbel-MALA with ", "positive", digits=3)
    return (
        "On enumerated responses the chains with Metropolis keep pi* to rounding and arrive at it "
        f"(TV {n.groups('tokens', 'TV to pi* after', '', 'positive', digits=4)}); the same "
        "proposals without it, or with another beta, end at a TV of "
        f"{n.groups('tokens', 'TV to pi* after', '', 'control')}. Gumbel-MALA, the exact analogue "
        f"of DTO, keeps pi* too (TV {gumbel}, which is what as many exact draws have), at about "
        f"the same acceptance with the reward's gradient "
        f"({n('tokens', 'acceptance rate', 'Gumbel-MALA with gradient')}) as without "
        f"({n('tokens', 'acceptance rate', 'Gumbel-MALA without')})."
    )


def _rl(n: _Numbers) -> str:
    gap, off = "RL: gap to the frontier", "RL: fitted beta off by"
    return (
        "RL with the KL in the reward arrives at the frontier (gap "
        f"{n.groups('tokens', gap, 'exact-gradient', 'positive', digits=3)} with exact gradients, "
        f"{n.groups('tokens', gap, 'sampled RLOO', 'positive', digits=3)} as sampled RLOO), at "
        f"its own beta to {n.groups('tokens', off, '', 'positive', digits=3)} of it."
    )


def _grpo(n: _Numbers) -> str:
    gap, rest = "gap to the frontier", "GRPO's fixed point"
    return (
        "GRPO comes to rest elsewhere: its fixed point, known exactly, is "
        f"{n.groups('tokens', gap, rest, 'report', digits=3)} below the "
        "frontier, because each token is penalised for its own KL alone and the group mean "
        "contains the sample itself. What TRL trained is further below it ("
        f"{n.groups('tokens', gap, 'GRPO (TRL)', 'report', digits=3)}): it has not converged (TV "
        f"{n.groups('tokens', 'TV to GRPO', 'GRPO (TRL)', 'report')} to its own fixed point) and "
        "says nothing about a limit."
    )


def _published(n: _Numbers) -> str:
    arm = "DTO published"
    return (
        "DTO at the published settings changes "
        f"{n('tokens', 'share of responses changed', arm)} of the responses (their share), "
        f"{n('tokens', 'share of tokens changed', arm, digits=3)} of the tokens. The reward's "
        "size has no part in it: Adam moves a logit by about the sum of its rates, "
        f"{n('tokens', 'largest move of a logit', arm, digits=3)} here, whatever the gradient's "
        "size, so a token can change only where the LM's two best logits are within twice that. "
        f"That is {n('tokens', 'share of tokens within reach', arm)} of the tokens of these flat "
        "random LMs (their median margin is "
        f"{n('tokens', 'median margin of the best logit', arm)}), and no token beyond reach "
        "changed. On an LM that is sure of its tokens the map is nearly the identity"
        + _embedded_reach(n)
    )


def _embedded_reach(n: _Numbers) -> str:
    try:
        share = n("embedded", "share of tokens within reach", "DTO published", digits=4)
    except _Unsaid:
        return "."
    return f": {share} of the embedded LM's tokens are within reach."


def _larger(n: _Numbers) -> str:
    near = "TV to pi* at the fitted beta"
    return (
        "With larger steps or in closed form DTO's law is at a TV of "
        f"{n.groups('tokens', near, 'DTO lr', 'report')} and "
        f"{n.groups('tokens', near, 'DTO mirror', 'report')} from the nearest pi*_beta, and "
        f"{n.groups('tokens', 'gap to the frontier', 'DTO', 'report')} below the frontier over all "
        "settings: descent on tokens without noise or correction samples no KL-regularised "
        "optimum."
    )


def _nabla(n: _Numbers) -> str:
    gap = "gap to the frontier"
    return (
        "Nabla decoding at the published settings stays "
        f"{n('tokens', gap, 'nabla decoding, published')} below the frontier at its own KL, and "
        f"the same search with learning rate 0 {n('tokens', gap, 'nabla decoding, null')}: what "
        "it gains there it gains from redrawing and accepting, not from the gradient. With larger "
        f"steps {n.groups('tokens', gap, 'nabla decoding, lr', 'report')}, with the mirror step "
        f"{n('tokens', gap, 'nabla decoding, mirror')}."
    )


_AGREES = "E[r] against importance sampling, standard errors apart"
_MOVES = "E[r] after half of the steps and after all, standard errors apart"


def _sampler(n: _Numbers) -> str:
    return (
        "At LM scale the E[r] of method mh at the largest beta is "
        f"{n.groups('embedded', _AGREES, 'method mh', 'positive')} standard errors from "
        "importance sampling of pi* (mean over seeds); chains at half the beta, and the "
        f"reference itself, are {n.groups('embedded', _AGREES, '', 'control', digits=1)} away."
    )


def _settled(n: _Numbers) -> str:
    return (
        "At smaller betas as many steps are too few, and nothing is judged there: between half of "
        "the steps and all E[r] still moves by "
        f"{n.groups('embedded', _MOVES, 'method mh', 'report', digits=1)} standard errors (at the "
        f"largest beta {n.groups('embedded', _MOVES, 'method mh', 'positive', digits=1)}), and it "
        f"ends {n.groups('embedded', _AGREES, 'method mh', 'report', digits=1)} away from "
        "importance sampling."
    )


def _language(n: _Numbers) -> str:
    arms = sorted({f.arm for f in n.findings if f.part == "embedded" and f.arm.startswith("RLOO")})
    if not arms:
        raise _Unsaid
    told = []
    for arm in arms:
        beta = arm.rsplit(" ", 1)[1]
        reward, kl = n("embedded", above("E[r]"), arm), n("embedded", "KL to the reference", arm)
        told.append(f"{reward} at KL {kl} (beta {beta})")
    return (
        "RLOO on the embedded LM gains in E[r] over the reference "
        + ", ".join(told)
        + ". It was trained once, for few steps, and has not converged: it lies below the "
        "frontier where that can be told, and is no measure of what RL can reach."
    )


def _hacked(n: _Numbers) -> str:
    def both(arm: str) -> str:
        reward = n("embedded", above("E[r]"), arm)
        return f"{reward} and {n('embedded', above('accuracy'), arm, digits=3)}"

    return (
        "Reward is not accuracy. What arms gain over the reference in E[r] and in accuracy: best "
        f"of 64 {both('best of 64')}; nabla decoding (ranked, sampled rollouts) "
        f"{both('nabla, ranked, sampled')}; its arm without a gradient {both('null arm')}; at the "
        f"published settings {both('nabla, published')}; mh at beta 1 "
        f"{both('method mh, beta 1')}. The reference has E[r] "
        f"{n('embedded', 'E[r]', 'reference LM')} and accuracy "
        f"{n('embedded', 'accuracy', 'reference LM')}; intervals are over sets of prompts."
    )
