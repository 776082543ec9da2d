"""The claims: each with the findings that decide it and the control beside it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.duality import names

THEOREM = "paper, Thm 4.1"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence that findings decide.

    The claim holds where all findings of `part` hold whose check begins with `check` and whose
    arm begins with `arm`. `control`: the beginning of the arms that must fail the same check
    (None: no control). `about_controls`: the claim is about arms that the stage uses as
    controls. `source`: T1 to T5 are the theorems in pipeline/duality/README.md.
    """

    text: str
    part: str
    check: str
    arm: str | tuple[str, ...] = ""
    control: str | None = None
    about_controls: bool = False
    source: str = ""


CLAIMS = (
    # R and R^2: what theory guarantees, then what is used instead.
    Claim(
        text="J(q) = J* - beta KL(q || pi*)",
        part="continuous",
        check="J* - J",
        source="T1",
    ),
    Claim(
        text="Gradient descent on samples with the right noise moves their distribution exactly "
        "as KL-regularised RL moves the policy (1-D)",
        part="continuous",
        check=names.LAW_1D,
        arm="noisy descent",
        control="",
        source="T2",
    ),
    Claim(
        text="The same in 2-D",
        part="continuous",
        check=names.LAW_2D,
        arm="noisy descent",
        control="",
        source="T2",
    ),
    Claim(
        text="A policy of quantiles that ascends J follows the same flow",
        part="continuous",
        check="W1 of quantile policy and Fokker-Planck, t",
        source="T2",
    ),
    Claim(
        text="The error of the distribution is of first order in the step size (distance of the "
        "order from 1)",
        part="continuous",
        check="distance from 1 of the order",
        source="T2",
    ),
    Claim(
        text="Gradient descent on samples without noise moves their distribution as the policy "
        "moves (the claim as the paper uses it)",
        part="continuous",
        check=names.LAW_1D,
        arm="no noise",
        about_controls=True,
        source="T3",
    ),
    Claim(
        text="Adam with noise moves the distribution as the policy moves",
        part="continuous",
        check=names.LAW_1D,
        arm="Adam + noise",
        about_controls=True,
        source="T3",
    ),
    Claim(
        text="The natural policy gradient moves along the frontier",
        part="continuous",
        check=names.PATH_GAP,
        arm="NPG",
        control="Wasserstein",
        source="T4",
    ),
    Claim(
        text="Gradient descent with noise moves along the frontier",
        part="continuous",
        check=names.PATH_GAP,
        arm="Wasserstein",
        about_controls=True,
        source="T4",
    ),
    # Enumerated responses: chains and RL, which T1 and T5 cover.
    Claim(
        text="On tokens, Markov chains with a Metropolis test keep pi* (L1 in float64)",
        part="tokens",
        check=names.STATIONARITY,
        control="",
        source="T5",
    ),
    Claim(
        text="Such a chain converges from the reference to pi* (TV)",
        part="tokens",
        check=names.TV_AFTER,
        control="",
        source="T5",
    ),
    Claim(
        text="Gumbel-MALA, the exact analogue of DTO, keeps pi* (TV of many chains to it)",
        part="tokens",
        check=names.GUMBEL_TV,
        arm="Gumbel-MALA with",
        control="Gumbel-MALA no",
        source="T5",
    ),
    Claim(
        text="RL with the KL in the reward reaches the frontier (gap; exact gradient and RLOO)",
        part="tokens",
        check=names.RL_GAP,
        control="",
        source="T1",
    ),
    Claim(
        text="It reaches it at its own beta (relative error of the fitted beta)",
        part="tokens",
        check=names.RL_BETA,
        control="",
        source="T1",
    ),
    # What no theorem covers: GRPO, best-of-N, and the released algorithm.
    Claim(
        text="The fixed point of GRPO lies on the frontier (gap)",
        part="tokens",
        check=names.GAP,
        arm="GRPO's fixed point",
    ),
    Claim(
        text="Best of N lies on the frontier (gap)",
        part="tokens",
        check=names.GAP,
        arm="best of",
    ),
    Claim(
        text="DTO at the published settings changes no token out of Adam's reach (their share)",
        part="tokens",
        check=names.OUT_OF_REACH,
        arm="DTO published",
    ),
    Claim(
        text="DTO at the published settings has the distribution pi*_beta for some beta (TV)",
        part="tokens",
        check=names.FITTED_TV,
        arm="DTO published",
        source=THEOREM,
    ),
    Claim(
        text="DTO with larger steps, or in closed form (mirror), has such a distribution (TV)",
        part="tokens",
        check=names.FITTED_TV,
        arm=("DTO lr", "DTO mirror"),
        source=THEOREM,
    ),
    Claim(
        text="The distribution of DTO lies on the frontier (gap)",
        part="tokens",
        check=names.GAP,
        arm="DTO",
        source=THEOREM,
    ),
    Claim(
        text="Nabla decoding at the published settings lies on the frontier (gap)",
        part="tokens",
        check=names.GAP,
        arm="nabla decoding, published",
        source=THEOREM,
    ),
    Claim(
        text="Nabla decoding at other settings lies on the frontier (gap)",
        part="tokens",
        check=names.GAP,
        arm=("nabla decoding, lr", "nabla decoding, mirror"),
        source=THEOREM,
    ),
    Claim(
        text="Nabla decoding without a gradient (null arm) lies on the frontier (gap)",
        part="tokens",
        check=names.GAP,
        arm="nabla decoding, null",
    ),
    # The laws above are computed, so they are compared with runs.
    Claim(
        text="Monte-Carlo runs and the library's own loops have the computed distributions (TV)",
        part="tokens",
        check="TV of",
        control="",
    ),
    # Language models, where laws are estimated.
    Claim(
        text="decoding.method: mh draws from pi* on the embedded LM (E[r], standard errors from "
        "importance sampling)",
        part="language",
        check=names.MH_ERROR,
        control="",
        source="T5",
    ),
    Claim(
        text="RL on the embedded LM, as far as it was trained, lies on the frontier (gap)",
        part="language",
        check=names.GAP,
        arm="RLOO",
    ),
    Claim(
        text="Your policy lies on the frontier (gap)",
        part="checkpoints",
        check=names.GAP,
        arm="policy",
    ),
)
