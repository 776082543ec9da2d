"""Counterfactuals: what a response would have come to, had another token stood at a position.

One prompt's flow: roll out a response; choose positions; put the LM's likeliest tokens there,
roll out a tail behind each, and score what comes out. The token that was taken is tried like
the others, so that all scores of a position are drawn alike. Guides are trained on these
(`nabla_core.guides`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Literal

from nabla_core.config import NablaConfig, Ranked, Sampling
from nabla_core.draws import DrawKey, uniform
from nabla_core.errors import PromptError
from nabla_core.requests import (
    Asking,
    Choices,
    Context,
    Decode,
    Judged,
    Likeliest,
    Propose,
    Render,
    Response,
    Rollout,
    Score,
    Sweep,
    ask,
    ask_all,
    ask_readable,
)
from nabla_core.types import Cost, FinishReason, Prompt


@dataclass(frozen=True)
class Explore:
    """Which counterfactuals are made: at some positions of a response, the LM's most probable
    tokens, each with the mean score of responses that continue it. The token of the response is
    scored like the others, so that all scores of a position have the same distribution of errors.

    Attributes:
        temperatures: One response is made at each of these temperatures.
        positions (positions): Positions of a response, drawn without replacement.
        choose: The weight of a position in that draw, in addition to `floor`: `confidence` takes 1
            - the LM's largest probability there; `guide` takes the probability that the guide gives
            its best replacement there, so that positions occur where the guide sees a change and
            where it is unsure.
        floor: The least weight of a position, so that every position can occur.
        alternatives (tokens): The most probable tokens of a position, the one of the response among
            them.
        tails (responses): Continuations of each token; one is enough where `tail` is greedy.
        tail: How continuations are drawn.
        scorer: `judge`: the judge's reward. `verifier`: 1 for a right answer, 0 for a wrong one.
    """

    temperatures: tuple[float, ...] = (0.0, 0.5, 0.7, 1.0)
    positions: int = 4
    choose: Literal["confidence", "guide"] = "confidence"
    floor: float = 0.02
    alternatives: int = 12
    tails: int = 1
    tail: Sampling = field(default_factory=Sampling)
    scorer: Literal["judge", "verifier"] = "judge"

    def __post_init__(self) -> None:
        for holds, message in (
            (self.temperatures, "temperatures must not be empty"),
            (min(self.temperatures, default=0) >= 0, "temperatures must be at least 0"),
            (self.positions >= 1, f"positions must be at least 1, got {self.positions}"),
            (self.floor > 0, f"floor must be above 0, got {self.floor}"),
            (
                self.alternatives >= 2,
                f"alternatives must be at least 2 (the token taken is one), "
                f"got {self.alternatives}",
            ),
            (self.tails >= 1, f"tails must be at least 1, got {self.tails}"),
            (
                self.tails == 1 or self.tail.temperature > 0,
                f"tails={self.tails} at tail.temperature 0 would be the same tail again",
            ),
        ):
            if not holds:
                raise ValueError(f"explore: {message}")


@dataclass(frozen=True, slots=True)
class Place:
    """One position and what was tried there: LM ids, the token taken first, the LM's
    log-probability of each, and its score. `confidence` is the LM's top probability."""

    position: int
    confidence: float
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """A response and its counterfactuals. `score` is the response's own."""

    prompt_id: str
    sample: int
    prompt_text: str
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    temperature: float
    score: float
    places: tuple[Place, ...]
    seed: int
    cost: Cost = field(default_factory=Cost)


Grade = Callable[[Prompt, str], bool | None]
Exploring = Asking[Explored]


def explore(
    prompt: Prompt, config: Explore, grade: Grade, *, seed: int = 0, max_tokens: int = 1024
) -> Exploring:
    """Counterfactuals of one response, at the temperature with the number `prompt.sample`.

    `grade(prompt, response)` is asked where the verifier scores: right, wrong, or None where
    there is no telling, which is a PromptError. Draws are keyed as the reasoner's.
    """

    def key(purpose: str) -> DrawKey:
        return DrawKey(seed, prompt.id, prompt.sample, f"explore {purpose}")

    context: Context = yield from ask(Render(prompt))
    temperature = config.temperatures[prompt.sample % len(config.temperatures)]
    response = yield from ask(
        Rollout(context, (), max_tokens, Sampling(temperature), key("rollout"), return_cache=True)
    )
    choices = yield from ask(Likeliest(context, response, config.alternatives))
    doubts = [1 - choice.confidence for choice in choices]
    if config.choose == "guide":
        doubts = yield from _guides_doubts(context, response, key("guide"))
    scorer = _Scorer(prompt, config, grade, context)
    own = yield from scorer.own(response)
    tried = [
        (position, token, tail)
        for position in _positions(config, choices, doubts, key("positions"))
        for token in choices[position].tokens
        for tail in range(config.tails)
    ]
    tails = yield from ask_all(
        [
            Rollout(
                context,
                (*response.tokens[:position], token),
                max_tokens,
                config.tail,
                key(f"tail {position} {token} {tail}"),
                reuse=response.cache,
            )
            for position, token, tail in tried
        ]
    )
    scores = yield from scorer.tails(tails, own)
    places = _places(config, choices, tried, scores)
    (text,) = yield from ask(Decode((response.tokens,)))
    return Explored(
        prompt_id=prompt.id,
        sample=prompt.sample,
        prompt_text=context.text,
        prompt_tokens=context.lm,
        tokens=response.tokens,
        text=text,
        finish_reason=response.finish,
        temperature=temperature,
        score=own.reward,
        places=places,
        seed=seed,
    )


@dataclass(frozen=True)
class _Scorer:
    """The judge or the verifier on a prompt's responses; rewards of tails reuse a cache."""

    prompt: Prompt
    config: Explore
    grade: Grade
    context: Context

    def own(self, response: Response) -> Asking[Judged]:
        """The response that tokens are tried in."""
        if self.config.scorer == "judge":
            return (yield from ask(Score(self.context, response.tokens, return_cache=True)))
        (right,) = yield from self._verdicts([response])
        return Judged(right)

    def tails(self, responses: Sequence[Response], own: Judged) -> Asking[Sequence[float | None]]:
        """What came of other tokens; None where the judge cannot read it."""
        if self.config.scorer == "judge":
            asked = [Score(self.context, r.tokens, reuse=own.cache) for r in responses]
            judged = yield from ask_readable(asked)
            return [one.reward if one else None for one in judged]
        return (yield from self._verdicts(responses))

    def _verdicts(self, responses: Sequence[Response]) -> Asking[list[float]]:
        texts = yield from ask(Decode(tuple(r.tokens for r in responses)))
        return [_verdict(self.prompt, text, self.grade) for text in texts]


def _places(
    config: Explore,
    choices: Sequence[Choices],
    tried: Sequence[tuple[int, int, int]],
    rewards: Sequence[float | None],
) -> tuple[Place, ...]:
    """The positions in order, each token with the mean reward of its tails. A token with a tail
    that the judge could not read is left out, and a position without two tokens to compare, the
    one taken among them."""
    scores: dict[tuple[int, int], float] = {}
    unread: set[tuple[int, int]] = set()
    for (position, token, _), reward in zip(tried, rewards, strict=True):
        if reward is None:
            unread.add((position, token))
        else:
            scores[position, token] = scores.get((position, token), 0.0) + reward / config.tails
    places = []
    for position in sorted({position for position, *_ in tried}):
        choice = choices[position]
        kept = [n for n, token in enumerate(choice.tokens) if (position, token) not in unread]
        if len(kept) > 1 and kept[0] == 0:
            tokens = tuple(choice.tokens[n] for n in kept)
            known = tuple(choice.log_probabilities[n] for n in kept)
            means = tuple(scores[position, token] for token in tokens)
            places.append(Place(position, choice.confidence, tokens, known, means))
    return tuple(places)


def _guides_doubts(context: Context, response: Response, key: DrawKey) -> Asking[list[float]]:
    """For each position, the probability that the guide's best replacement there should be made:
    the logistic of its score under ranked proposals with beta 1."""
    count = len(response.tokens)
    ranking = NablaConfig(
        proposals="ranked", ranked=Ranked(beta=1.0, min_score=float("-inf")), max_rollouts=8 * count
    )
    swept = yield from ask(Sweep(context, response, 0, ranking))
    proposals = yield from ask(Propose(swept.gradients, 0, 16 * count, key))
    best = [float("-inf")] * count
    for proposal in proposals:
        best[proposal.position] = max(best[proposal.position], proposal.score)
    return [1 / (1 + exp(-max(score, -60.0))) for score in best]


def _positions(
    config: Explore, choices: Sequence[Choices], doubts: Sequence[float], key: DrawKey
) -> list[int]:
    """Weighted draws without replacement: the largest u^(1/w), each position its own u."""
    open_ = [i for i, choice in enumerate(choices) if len(choice.tokens) > 1]
    weight = {i: doubts[i] + config.floor for i in open_}
    open_.sort(key=lambda i: -(uniform(key, i) ** (1 / weight[i])))
    return sorted(open_[: config.positions])


def _verdict(prompt: Prompt, text: str, grade: Grade) -> float:
    right = grade(prompt, text)
    if right is None:
        raise PromptError(
            f"prompt {prompt.id} has no expected answer that the verifier could compare with"
        )
    return float(right)
