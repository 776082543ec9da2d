"""Settings of the loop, as frozen dataclasses. Defaults are the published ones where the
paper gives any (`max_iters` 20, learning rate .01, cosine to a tenth, reward 1, likelihood
1e-3, 8 rollouts, confidence .97). One differs from the code of the authors' release, where the
cosine goes to 0 and stops at a tenth: that is `dto.schedule: release`. Nothing here imports
torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from nabla_core.method_config import GGRO, MCTS, MH, Beam, BestOfN, Majority, Sampling, Steps, check

# The settings of all methods are imported from here.
__all__ = [
    "DTO",
    "GGRO",
    "MCTS",
    "MH",
    "Beam",
    "BestOfN",
    "Decoding",
    "Majority",
    "NablaConfig",
    "Objective",
    "Ranked",
    "Sampling",
    "Select",
    "Steps",
    "check",
]


@dataclass(frozen=True)
class Objective:
    """The loss whose gradient is taken (paper, section 3):

        loss = -(nll_coeff * sum_j log p(y_j | x, y_<j) + reward_coeff * r(x, y))

    nll_coeff / reward_coeff is the beta of the KL-regularised objective E[r] - beta KL.

    Attributes:
        nll_coeff: Weight of the response's log-probability under the LM.
        reward_coeff: Weight of the reward model's reward.
    """

    nll_coeff: float = 1e-3
    reward_coeff: float = 1.0


@dataclass(frozen=True)
class Select:
    """Which positions may be revised: those that meet all three thresholds.

    Attributes:
        confidence_threshold: The LM's largest probability at the position is at most this.
        entropy_threshold (nats): The entropy of the LM's distribution at the position is at least
            this.
        grad_threshold: The norm of the gradient row of the position is at least this.
        norm: The norm of a gradient row: `plain`, or `centred`, which subtracts the mean over the
            vocabulary first. With a vocabulary of 150,000 tokens the likelihood term is mostly a
            constant that the Jacobian of the softmax removes, but that dominates the plain norm.
    """

    confidence_threshold: float = 0.97
    entropy_threshold: float = 0.0
    grad_threshold: float = 0.0
    norm: Literal["plain", "centred"] = "plain"


@dataclass(frozen=True)
class DTO:
    """Differentiable textual optimisation of one position (paper, section 3).

    The last three keys are known from the authors' release. With them a gradient depends on more
    than the tokens of the response, so a cached gradient is not that of the literal algorithm, and
    `NablaConfig.exact` refuses them. Without `exact` they act on the gradients of the sweep in use.

    Attributes:
        optimizer: `adam`: `max_iters` steps of Adam. `mirror`: one step in closed form, the
            minimiser of the linearised loss plus beta * KL(q || p), which is softmax(z - g / beta).
        variable: What Adam optimises: the logits, or the latents (last hidden state) that produce
            them.
        max_iters (steps): Steps of Adam.
        learning_rate: Adam's largest learning rate.
        schedule: How the learning rate falls after the warm-up, as a fraction of `learning_rate`.
            With c = (1 + cos(pi * progress)) / 2: `cosine` is min_lr_ratio + (1 - min_lr_ratio) *
            c, a cosine to `min_lr_ratio`. `release` is max(min_lr_ratio, c), as in the authors'
            release. At 20 steps of .01 the rates sum to .1145 and .1072.
        min_lr_ratio: The least learning rate, as a fraction of `learning_rate`.
        warmup_steps (steps): The learning rate rises linearly over the first steps, this many.
        beta1: Adam's decay rate of the first moment.
        beta2: Adam's decay rate of the second moment.
        eps: Added to Adam's denominator.
        beta (units of the objective per nat): Strength of the KL term of the mirror step; null: no
            step is taken.
        weight_decay: Decoupled weight decay of the row that is optimised.
        gumbel_noise: Scale of the Gumbel noise that is added to the logits at each step.
        update_postfix: The n-th candidate of a response has been through n runs of the optimiser:
            one for each candidate before it, and its own.
    """

    optimizer: Literal["adam", "mirror"] = "adam"
    variable: Literal["logits", "latents"] = "logits"
    max_iters: int = 20
    learning_rate: float = 0.01
    schedule: Literal["cosine", "release"] = "cosine"
    min_lr_ratio: float = 0.1
    warmup_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    beta: float | None = 1.0
    weight_decay: float = 0.0
    gumbel_noise: float = 0.0
    update_postfix: bool = False

    def __post_init__(self) -> None:
        check(
            self.beta is None or 0 < self.beta < math.inf,
            f"dto.beta must be above 0 and finite, or null for no step; got {self.beta}",
        )
        for name in ("weight_decay", "gumbel_noise"):
            value = getattr(self, name)
            check(value >= 0, f"dto.{name} must be at least 0, got {value}")
        check(self.max_iters >= 0, f"max_iters must be at least 0, got {self.max_iters}")
        check(
            0 <= self.warmup_steps <= self.max_iters,
            f"warmup_steps must be in 0..max_iters={self.max_iters}, got {self.warmup_steps}",
        )
        check(
            not (self.optimizer == "mirror" and self.variable == "latents"),
            "dto.optimizer: mirror is a closed form in logits; it has no latents variant",
        )


@dataclass(frozen=True)
class Ranked:
    """Ranked mirror proposals: all (position, token) pairs of a sweep, best first, by their score

        s_i(b) = A_i(b) / beta + log p(b | y_<i) - log p(y_i | y_<i)    (nats)

    where A_i(b) = g_i[y_i] - g_i[b] is the advantage that the guide predicts. With a calibrated
    guide and beta 1 the scores are the log-odds of the change.

    Attributes:
        beta (units of the objective per nat): Strength of the KL term. null: no guide; pairs are
            ranked by likelihood alone.
        min_score (nats): Pairs with a score of at most this are not proposed.
        nucleus: Leaves out tokens outside the LM's top-p set of this mass; 1 is off.
        reward_weight (1 / judge's unit): Makes acceptance depend on the score: a proposal is
            accepted if the reward rises and s + reward_weight * (r' - r) > 0, so an unlikely change
            needs a larger rise than a likely one. 0: the reward alone decides.
    """

    beta: float | None = 1.0
    min_score: float = -3.0
    nucleus: float = 1.0
    reward_weight: float = 0.0

    def __post_init__(self) -> None:
        check(
            self.beta is None or self.beta > 0,
            f"ranked.beta must be above 0, or null to rank without a guide, got {self.beta}",
        )
        check(
            self.reward_weight >= 0,
            f"ranked.reward_weight must be at least 0, got {self.reward_weight}",
        )
        check(0 < self.nucleus <= 1, f"nucleus must be in (0, 1], got {self.nucleus}")


@dataclass(frozen=True)
class NablaConfig:
    """The loop: sweep, propose, roll out, judge, accept or reject; repeated until a bound is met.

    Attributes:
        max_rollouts (responses): Proposals that are rolled out after the first response, at most.
        rollout: How responses and the tails of proposals are drawn.
        proposals: Which changes are proposed. `left_to_right`: those of the paper. `ranked`: by
            score. `second` and `random`: the same positions, changed to the LM's second choice or
            to a random token; they use no gradient and serve as comparison.
        anchor: Gradients are taken at the tokens of the response (`rollout`), or, as in the
            authors' release, with the most probable token at each position that is not yet
            committed (`argmax`).
        objective: The loss whose gradient is taken.
        select: Which positions may be revised.
        dto: The optimiser of left-to-right proposals.
        resample: How left-to-right proposals draw a token from the optimised distribution.
        ranked: The settings of ranked proposals.
        speculate (proposals): Proposals that are rolled out and judged as one batch.
        take: Which accepted proposal of a batch is used: the `first` in order, so that traces do
            not depend on `speculate`, or the `best`.
        exact: Every decision is that of the literal algorithm with a fresh gradient at every
            position. Settings that contradict this are refused.
    """

    max_rollouts: int = 8
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.6, top_p=0.95))
    proposals: Literal["left_to_right", "ranked", "second", "random"] = "left_to_right"
    anchor: Literal["rollout", "argmax"] = "rollout"
    objective: Objective = field(default_factory=Objective)
    select: Select = field(default_factory=Select)
    dto: DTO = field(default_factory=DTO)
    resample: Sampling = field(default_factory=lambda: Sampling(temperature=0.5))
    ranked: Ranked = field(default_factory=Ranked)
    speculate: int = 1
    take: Literal["first", "best"] = "first"
    exact: bool = True

    def __post_init__(self) -> None:
        names = ("weight_decay", "gumbel_noise", "update_postfix")
        inexact = [f"dto.{n}={getattr(self.dto, n)}" for n in names if getattr(self.dto, n)]
        check(
            not (self.exact and inexact),
            f"exact: true refuses {', '.join(inexact)}: cached gradients would not be those of "
            "the literal algorithm; leave it out, or set exact: false",
        )
        check(self.max_rollouts >= 0, f"max_rollouts must be at least 0, got {self.max_rollouts}")
        check(self.speculate >= 1, f"speculate must be at least 1, got {self.speculate}")
        check(
            self.resample.beta is None, "resample.beta must be null: rollout.beta guides rollouts"
        )
        check(self.resample.min_p == 0, "resample.min_p must be 0: rollout.min_p is for rollouts")

    @property
    def uses_guide(self) -> bool:
        """Whether a sweep uses the guide. Rollouts with `rollout.beta` use it too."""
        if self.proposals == "ranked":
            return self.ranked.beta is not None
        return self.proposals == "left_to_right"

    @property
    def needs_gradient(self) -> bool:
        """Whether the guide must have a gradient. Adam needs a row at each hard sequence; the
        mirror step and a ranking take advantages that a head predicts as well."""
        return self.proposals == "left_to_right" and self.dto.optimizer == "adam"


@dataclass(frozen=True)
class Decoding:
    """The method that answers a prompt, and the settings of each method.

    Attributes:
        method: The method. `greedy` takes the most probable token at each position.
        max_tokens (tokens): The longest response.
        nabla: The settings of method nabla.
        guided: The settings of method guided: one response, drawn from the guided law. This is
            method sample with `beta` set.
        sample: The settings of method sample: one response, drawn like this.
        best_of_n: The settings of method best_of_n.
        majority: The settings of method majority.
        mh: The settings of method mh.
        beam: The settings of method beam.
        mcts: The settings of method mcts.
        ggro: The settings of method ggro.
    """

    method: Literal[
        "nabla", "guided", "greedy", "sample", "best_of_n", "majority", "mh", "beam", "mcts", "ggro"
    ] = "nabla"
    max_tokens: int = 1024
    nabla: NablaConfig = field(default_factory=NablaConfig)
    guided: Sampling = field(default_factory=lambda: Sampling(temperature=0, beta=1.0))
    sample: Sampling = field(default_factory=lambda: Sampling(temperature=0.6, top_p=0.95))
    best_of_n: BestOfN = field(default_factory=BestOfN)
    majority: Majority = field(default_factory=Majority)
    mh: MH = field(default_factory=MH)
    beam: Beam = field(default_factory=Beam)
    mcts: MCTS = field(default_factory=MCTS)
    ggro: GGRO = field(default_factory=GGRO)

    def __post_init__(self) -> None:
        check(self.max_tokens >= 1, f"max_tokens must be at least 1, got {self.max_tokens}")
        check(self.guided.beta is not None, "guided.beta must be set; sample needs no guide")

    @property
    def rollout(self) -> Sampling:
        """How the method draws responses."""
        if self.method == "greedy":
            return Sampling(temperature=0)
        settings: Sampling | NablaConfig | BestOfN | Majority | MH | Beam | MCTS | GGRO = getattr(
            self, self.method
        )
        return settings if isinstance(settings, Sampling) else settings.rollout
