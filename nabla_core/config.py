"""Settings of the loop, as frozen dataclasses. Defaults are the published ones where the
paper gives any (`max_iters` 20, learning rate .01, cosine to a tenth, reward 1, likelihood
1e-3, 8 rollouts, confidence .97). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


def check(holds: bool, message: str) -> None:
    """Raises ValueError with the message where something does not hold."""
    if not holds:
        raise ValueError(message)


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. `temperature` 0 takes the argmax; `top_k` 0 and `top_p` 1 are off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        check(self.temperature >= 0, f"temperature must be at least 0, got {self.temperature}")
        check(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        check(self.top_k >= 0, f"top_k must be at least 0, got {self.top_k}")


@dataclass(frozen=True)
class Objective:
    """loss = -(nll_coeff * sum_j log p(y_j | x, y_<j) + reward_coeff * r(x, y)).

    nll_coeff / reward_coeff is the beta of the KL-regularised objective E[r] - beta KL.
    """

    nll_coeff: float = 1e-3
    reward_coeff: float = 1.0


@dataclass(frozen=True)
class Select:
    """Which positions may be revised.

    The LM's top probability is at most `confidence_threshold`, its entropy (nats) at least
    `entropy_threshold`, and the norm of the gradient row at least `grad_threshold`.
    `norm: centred` takes the mean over the vocabulary off the row first: at 150k tokens the
    direct likelihood term is mostly a constant that the softmax Jacobian removes, yet it
    dominates the plain norm.
    """

    confidence_threshold: float = 0.97
    entropy_threshold: float = 0.0
    grad_threshold: float = 0.0
    norm: Literal["plain", "centred"] = "plain"


@dataclass(frozen=True)
class DTO:
    """Differentiable textual optimisation of one position (paper, section 3).

    `adam`: `max_iters` steps on the logits, or on the latents (last hidden state) that
    produce them; the learning rate rises linearly over `warmup_steps`, then falls on a
    cosine to `min_lr_ratio` of itself. `mirror`: one step in closed form, the minimiser of
    the linearised loss plus beta * KL(q || p), which is softmax(z - g / beta).

    Three settings known from the release make a gradient depend on more than the hard tokens,
    so no cached one is the literal algorithm's (`NablaConfig.exact` refuses them). Without
    `exact` they work on the gradients of the sweep at hand: `weight_decay` (decoupled) shrinks
    the row under optimisation alone; `gumbel_noise` is the scale of the noise added to the
    logits at every step; with `update_postfix` the n-th candidate of a response has been
    through n runs of the optimiser, one for each candidate before it and its own.
    """

    optimizer: Literal["adam", "mirror"] = "adam"
    variable: Literal["logits", "latents"] = "logits"
    max_iters: int = 20
    learning_rate: float = 0.01
    min_lr_ratio: float = 0.1
    warmup_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    beta: float = 1.0
    weight_decay: float = 0.0
    gumbel_noise: float = 0.0
    update_postfix: bool = False

    def __post_init__(self) -> None:
        check(self.beta > 0, f"dto.beta must be above 0, got {self.beta}")
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

    where A_i(b) = g_i[y_i] - g_i[b] is the advantage that the guide predicts. `beta` is the
    strength of the KL term; null ranks by likelihood alone and takes no gradient. Pairs with a
    score of at most `min_score` are not proposed. `nucleus` below 1 leaves out tokens outside
    the LM's top-p set of that mass.

    With a calibrated guide and beta 1 the scores are the log-odds of the change.
    `reward_weight` (1 / the judge's unit) makes acceptance depend on them: a proposal is
    accepted where the judge's reward rises and s + reward_weight * (r' - r) > 0, so an unlikely
    change needs a larger rise than a likely one. 0: the reward alone decides.
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
    """One run of the loop.

    `max_rollouts` bounds the proposals rolled out after the first response. `proposals`:
    `left_to_right` is the paper's; `ranked` orders by first-order gain; `second` and `random`
    are the null arms that revise the same positions to the LM's second choice or to a random
    token, without a gradient.
    `anchor`: take gradients at the rolled-out tokens, or (`argmax`, the release's way) at
    the argmax of every uncommitted position.
    `speculate`: proposals rolled out and judged as one batch. With `take: first` the first
    acceptance in order wins and traces do not depend on it; with `take: best` the batch's
    best does.
    `exact`: every decision is that of the literal algorithm with a fresh gradient at every
    position; settings that cannot keep this promise are refused.
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

    @property
    def takes_gradient(self) -> bool:
        """Whether a sweep needs backward passes at all."""
        if self.proposals == "ranked":
            return self.ranked.beta is not None
        return self.proposals == "left_to_right"

    @property
    def needs_gradient(self) -> bool:
        """Whether only a guide with a gradient will do: a head says what the mirror step and a
        ranking ask for, and not what Adam does."""
        return self.proposals == "left_to_right" and self.dto.optimizer == "adam"


@dataclass(frozen=True)
class BestOfN:
    """Sample `n` responses, keep the one the judge likes best (the first of equals)."""

    n: int = 8
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))

    def __post_init__(self) -> None:
        check(self.n >= 1, f"n must be at least 1, got {self.n}")


@dataclass(frozen=True)
class Majority:
    """Sample `n` responses, keep the first that ends in the most frequent answer."""

    n: int = 8
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))

    def __post_init__(self) -> None:
        check(self.n >= 1, f"n must be at least 1, got {self.n}")


@dataclass(frozen=True)
class MH:
    """Draws from pi*_beta ~ p_ref exp(r / beta), the optimum of E[r] - beta KL(. || p_ref), by
    `steps` Metropolis proposals of a new tail.

    p_ref is defined by `rollout`: the LM's own law at temperature 1 without top-p and top-k
    (the default), else the law that such sampling has, which is then what KL is taken to.
    """

    beta: float = 1.0
    steps: int = 32
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=1.0))

    def __post_init__(self) -> None:
        check(self.beta > 0, f"beta must be positive, got {self.beta}")
        check(self.steps >= 0, f"steps must be at least 0, got {self.steps}")
        check(
            self.rollout.temperature > 0,
            "mh.rollout.temperature must be above 0: a greedy reference is one response",
        )


@dataclass(frozen=True)
class Decoding:
    """Which method answers a prompt, the settings of each, and the longest response (tokens)."""

    method: Literal["nabla", "greedy", "sample", "best_of_n", "majority", "mh"] = "nabla"
    max_tokens: int = 1024
    nabla: NablaConfig = field(default_factory=NablaConfig)
    sample: Sampling = field(default_factory=lambda: Sampling(temperature=0.6, top_p=0.95))
    best_of_n: BestOfN = field(default_factory=BestOfN)
    majority: Majority = field(default_factory=Majority)
    mh: MH = field(default_factory=MH)

    def __post_init__(self) -> None:
        check(self.max_tokens >= 1, f"max_tokens must be at least 1, got {self.max_tokens}")
