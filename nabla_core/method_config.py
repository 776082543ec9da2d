"""Settings of sampling, and of the methods that a search is compared with, as frozen dataclasses.
Nothing here imports torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal


def check(holds: bool, message: str) -> None:
    """Raises ValueError with the message unless `holds`."""
    if not holds:
        raise ValueError(message)


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: from the LM's law p, or with `beta` from the guided law

        q(b) ~ p(b) exp(A(b) / beta),  the optimum of E[A] - beta KL(q || p),

    with the guide's advantages A. Temperature, top-k and top-p act on q, min-p on p.

    Attributes:
        temperature: Divides the logits before the softmax; 0 takes the most probable token.
        top_p: Draws from the smallest set of tokens whose probabilities sum to this; 1 is off.
        top_k (tokens): Draws from the most probable tokens, this many; 0 is off.
        beta (judge's units per nat): Strength of the KL term; the smaller, the more the guide (a
            head) decides. null: no guide.
        min_p: Draws none of the tokens whose probability under p is below this share of the
            largest one; 0 is off. It keeps a guide, whose advantages of tokens that were never
            tried are guesses, to what the LM can say.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    beta: float | None = None
    min_p: float = 0.0

    def __post_init__(self) -> None:
        check(0 <= self.min_p <= 1, f"min_p must be in [0, 1], got {self.min_p}")
        check(self.temperature >= 0, f"temperature must be at least 0, got {self.temperature}")
        check(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        check(self.top_k >= 0, f"top_k must be at least 0, got {self.top_k}")
        check(
            self.beta is None or 0 < self.beta < math.inf,
            f"beta must be above 0 and finite, or null for no guide; got {self.beta}",
        )


@dataclass(frozen=True)
class BestOfN:
    """Sample responses and keep the one with the highest reward (the first of equals).

    Attributes:
        n (responses): Responses to a prompt.
        rollout: How responses are drawn.
    """

    n: int = 8
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))

    def __post_init__(self) -> None:
        check(self.n >= 1, f"n must be at least 1, got {self.n}")


@dataclass(frozen=True)
class Majority:
    """Sample responses and keep the first one with the most frequent answer.

    Attributes:
        n (responses): Responses to a prompt.
        rollout: How responses are drawn.
    """

    n: int = 8
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))

    def __post_init__(self) -> None:
        check(self.n >= 1, f"n must be at least 1, got {self.n}")


@dataclass(frozen=True)
class MH:
    """Metropolis-Hastings: a draw from pi*_beta ~ p_ref exp(r / beta), the optimum of E[r] - beta
    KL(. || p_ref). A step proposes a new tail of the response.

    Attributes:
        beta (judge's units per nat): Strength of the KL term.
        steps (steps): Proposals.
        rollout: Defines p_ref: at temperature 1 without top-p, top-k and `rollout.beta` the LM's
            own distribution, otherwise the distribution of such sampling (the guided law, for
            example), which is then the reference of the KL term.
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
class Steps:
    """Where a response is cut into steps, for methods that search over steps.

    Attributes:
        separator: A step ends with the first token whose text holds this string, for example a line
            break. null: steps have a fixed length.
        tokens (tokens): The longest step.
    """

    separator: str | None = None
    tokens: int = 64

    def __post_init__(self) -> None:
        check(self.tokens >= 1, f"steps.tokens must be at least 1, got {self.tokens}")
        check(self.separator != "", "steps.separator must be a text, or null for a fixed length")


@dataclass(frozen=True)
class Beam:
    """Beam search over steps, with the judge's reward as the score.

    Attributes:
        width (responses): Partial responses that are kept after each step.
        expand (steps): Continuations by one step that are drawn of each of them; of the prompt
            itself width * expand are drawn.
        steps: Where a response is cut into steps.
        judged: What the judge reads of a partial response: the partial response with a `greedy`
            completion, or the `partial` response alone. Most judges were trained on whole
            responses.
        answer: What is returned: the best response at the end of the search (`final`), or the
            best whole response that the judge has read on the way (`best`).
        rollout: How steps are drawn.
    """

    width: int = 4
    expand: int = 4
    steps: Steps = field(default_factory=Steps)
    judged: Literal["greedy", "partial"] = "greedy"
    answer: Literal["final", "best"] = "final"
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))

    def __post_init__(self) -> None:
        check(self.width >= 1, f"beam.width must be at least 1, got {self.width}")
        check(self.expand >= 1, f"beam.expand must be at least 1, got {self.expand}")


@dataclass(frozen=True)
class MCTS:
    """Monte Carlo tree search over steps (UCT), with the judge's reward as the value.

    Attributes:
        simulations (simulations): How often a leaf is added to the tree and judged, after the
            greedy response.
        exploration: Weight of the term that prefers steps that were tried less often. Rewards are
            scaled to 0 to 1 over those of the tree.
        children (steps): Different next steps of a partial response, at most.
        widening: After n visits a partial response has at most n to the power of this many next
            steps, rounded up; 1: as many as there are visits.
        steps: Where a response is cut into steps.
        judged: What the judge reads of a leaf: the leaf with a `greedy` completion, or the
            `partial` response alone.
        rollout: How steps are drawn.
    """

    simulations: int = 16
    exploration: float = 1.0
    children: int = 4
    widening: float = 0.5
    steps: Steps = field(default_factory=Steps)
    judged: Literal["greedy", "partial"] = "greedy"
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))

    def __post_init__(self) -> None:
        check(self.simulations >= 0, f"mcts.simulations must be >= 0, got {self.simulations}")
        check(self.exploration >= 0, f"mcts.exploration must be >= 0, got {self.exploration}")
        check(self.children >= 1, f"mcts.children must be at least 1, got {self.children}")
        check(0 < self.widening <= 1, f"mcts.widening must be in (0, 1], got {self.widening}")
        check(self.rollout.temperature > 0, "mcts.rollout.temperature must be above 0")


@dataclass(frozen=True)
class GGRO:
    """Gradient-guided reward optimisation (arXiv 2606.09635): at uncertain positions the token is
    replaced by the one that the gradient prefers, and the segment with the highest reward is kept.
    What differs from the paper is said in `nabla_core.methods.ggro`.

    Attributes:
        entropy_threshold (nats): A segment begins where the entropy of the next token's
            distribution is at least this.
        min_segment (tokens): The shortest segment.
        refinements (responses): Responses that are tried for a segment, the first one included.
        top_k (tokens): The token is replaced by one of the LM's most probable, this many.
        judged: What the judge reads and what gradients are taken of: the `greedy` response with the
            segment and all that follows, or the response up to the end of the segment (`partial`),
            as in the paper.
        rollout: How segments are drawn; greedy in the paper.
    """

    entropy_threshold: float = 1.5
    min_segment: int = 4
    refinements: int = 8
    top_k: int = 25
    judged: Literal["greedy", "partial"] = "greedy"
    rollout: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        check(
            self.entropy_threshold >= 0,
            f"ggro.entropy_threshold must be at least 0, got {self.entropy_threshold}",
        )
        check(self.min_segment >= 1, f"ggro.min_segment must be >= 1, got {self.min_segment}")
        check(self.refinements >= 1, f"ggro.refinements must be >= 1, got {self.refinements}")
        check(self.top_k >= 1, f"ggro.top_k must be at least 1, got {self.top_k}")
