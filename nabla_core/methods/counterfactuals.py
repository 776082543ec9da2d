"""Counterfactuals: the score that a response would have with another token at one position.

The flow of one prompt: roll out a response, choose positions, put the LM's most probable tokens
there, roll out a tail behind each, and score the results. The response's own token gets a new tail
too, so that all scores of a position have the same distribution of errors. Guides are trained on
counterfactuals (`nabla_core.guide_training`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Literal

from nabla_core.config import NablaConfig, Ranked, Sampling, check
from nabla_core.draws import DrawKey, uniform
from nabla_core.errors import PromptError
from nabla_core.requests import (
    Choices,
    Context,
    Decode,
    Judged,
    Likeliest,
    Propose,
    Render,
    RequestGenerator,
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
        copied (tokens): Tokens of the prompt that are tried at a position too, this many, the most
            probable first. What a prompt asks for, a name or a number, is often none of the LM's
            most probable tokens.
        tails (responses): Continuations of each token; one is enough where `tail` is greedy.
        tail: How continuations are drawn.
        scorer: `judge`: the judge's reward. `verifier`: 1 for a right answer, 0 for a wrong one.
    """

    temperatures: tuple[float, ...] = (0.0, 0.5, 0.7, 1.0)
    positions: int = 4
    choose: Literal["confidence", "guide"] = "confidence"
    floor: float = 0.02
    alternatives: int = 12
    copied: int = 0
    tails: int = 1
    tail: Sampling = field(default_factory=Sampling)
    scorer: Literal["judge", "verifier"] = "judge"

    def __post_init__(self) -> None:
        check(len(self.temperatures) > 0, "explore: temperatures must not be empty")
        check(min(self.temperatures) >= 0, "explore: temperatures must be at least 0")
        check(self.positions >= 1, f"explore: positions must be at least 1, got {self.positions}")
        check(self.floor > 0, f"explore: floor must be above 0, got {self.floor}")
        check(
            self.alternatives >= 2,
            "explore: alternatives must be at least 2 (the token of the response is one), "
            f"got {self.alternatives}",
        )
        check(self.copied >= 0, f"explore: copied must be at least 0, got {self.copied}")
        check(self.tails >= 1, f"explore: tails must be at least 1, got {self.tails}")
        check(
            self.tails == 1 or self.tail.temperature > 0,
            f"explore: tails={self.tails} at tail.temperature 0 would be the same tail again",
        )


@dataclass(frozen=True, slots=True)
class Place:
    """One position and the tokens tried there: LM ids (the response's own first), the LM's
    log-probability (nats) and the score of each. `confidence` is the LM's top probability.

    `tail_scores` are the scores of each token's tails, of which `scores` are the means; empty where
    a score is not that of tails.
    """

    position: int
    confidence: float
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    scores: tuple[float, ...]
    tail_scores: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """A response and its counterfactuals. `score` is that of the response itself."""

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


def explore(
    prompt: Prompt, config: Explore, grade: Grade, *, seed: int = 0, max_tokens: int = 1024
) -> RequestGenerator[Explored]:
    """Counterfactuals of one response, at the temperature with the number `prompt.sample`.

    `grade(prompt, response)` is called if the verifier scores. It says whether the answer is right,
    or None where that cannot be decided, which is a PromptError. Random draws are keyed as in
    `nabla`.
    """

    def key(purpose: str) -> DrawKey:
        return DrawKey(seed, prompt.id, prompt.sample, f"explore {purpose}")

    context: Context = yield from ask(Render(prompt))
    # The samples of a prompt are its responses at the temperatures, in turn.
    temperature = config.temperatures[prompt.sample % len(config.temperatures)]
    response = yield from ask(
        Rollout(context, (), max_tokens, Sampling(temperature), key("rollout"), return_cache=True)
    )
    choices = yield from ask(Likeliest(context, response, config.alternatives, config.copied))
    weights = [1 - choice.confidence for choice in choices]
    if config.choose == "guide":
        weights = yield from _guide_weights(context, response, key("guide"))
    scorer = _Scorer(prompt, config, grade, context)
    own = yield from scorer.own(response)
    tried = [
        (position, token, tail)
        for position in _positions(config, choices, weights, key("positions"))
        for token in choices[position].tokens
        for tail in range(config.tails)
    ]
    # All tails at once: the engine batches them, and they continue from one cache.
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
    """Scores a prompt's responses with the judge or the verifier."""

    prompt: Prompt
    config: Explore
    grade: Grade
    context: Context

    def own(self, response: Response) -> RequestGenerator[Judged]:
        """The score of the response in which tokens are tried."""
        if self.config.scorer == "judge":
            return (yield from ask(Score(self.context, response.tokens, return_cache=True)))
        (right,) = yield from self._verdicts([response])
        return Judged(right)

    def tails(
        self, responses: Sequence[Response], own: Judged
    ) -> RequestGenerator[Sequence[float | None]]:
        """The scores of responses with new tails; None where the judge cannot read one."""
        if self.config.scorer == "judge":
            requests = [Score(self.context, r.tokens, reuse=own.cache) for r in responses]
            judged = yield from ask_readable(requests)
            return [one.reward if one else None for one in judged]
        return (yield from self._verdicts(responses))

    def _verdicts(self, responses: Sequence[Response]) -> RequestGenerator[list[float]]:
        texts = yield from ask(Decode(tuple(r.tokens for r in responses)))
        return [_verdict(self.prompt, text, self.grade) for text in texts]


def _places(
    config: Explore,
    choices: Sequence[Choices],
    tried: Sequence[tuple[int, int, int]],
    rewards: Sequence[float | None],
) -> tuple[Place, ...]:
    """The positions in order, each token with the scores of its tails and their mean.

    A token is left out if the judge could not read one of its tails. A position is left out unless
    the response's own token and another one remain.
    """
    scores: dict[tuple[int, int], list[float]] = {}
    unread: set[tuple[int, int]] = set()
    for (position, token, _), reward in zip(tried, rewards, strict=True):
        if reward is None:
            unread.add((position, token))
        else:
            scores.setdefault((position, token), []).append(reward)
    places = []
    for position in sorted({position for position, *_ in tried}):
        choice = choices[position]
        kept = [n for n, token in enumerate(choice.tokens) if (position, token) not in unread]
        # The response's own token comes first: without it there is nothing to compare with.
        if len(kept) > 1 and kept[0] == 0:
            tokens = tuple(choice.tokens[n] for n in kept)
            log_probabilities = tuple(choice.log_probabilities[n] for n in kept)
            tail_scores = tuple(tuple(scores[position, token]) for token in tokens)
            places.append(
                Place(
                    position=position,
                    confidence=choice.confidence,
                    tokens=tokens,
                    log_probabilities=log_probabilities,
                    scores=tuple(sum(each) / config.tails for each in tail_scores),
                    tail_scores=tail_scores,
                )
            )
    return tuple(places)


def _guide_weights(
    context: Context, response: Response, key: DrawKey
) -> RequestGenerator[list[float]]:
    """For each position, the probability of the guide's best replacement there: the logistic
    function of its score under ranked proposals with beta 1."""
    count = len(response.tokens)
    ranking = NablaConfig(
        proposals="ranked", ranked=Ranked(beta=1.0, min_score=float("-inf")), max_rollouts=8 * count
    )
    # No minimum score: positions where the guide would change nothing have a weight too.
    swept = yield from ask(Sweep(context, response, 0, ranking))
    proposals = yield from ask(Propose(swept.gradients, 0, 16 * count, key))
    # A ranking holds twice max_rollouts pairs: 16 a position reach nearly every position.
    best = [float("-inf")] * count
    for proposal in proposals:
        best[proposal.position] = max(best[proposal.position], proposal.score)
    # Clamped, for exp overflows; a weight of e^-60 is 0 beside any floor.
    return [1 / (1 + exp(-max(score, -60.0))) for score in best]


def _positions(
    config: Explore, choices: Sequence[Choices], weights: Sequence[float], key: DrawKey
) -> list[int]:
    """Weighted draws without replacement (Efraimidis and Spirakis, 2006): the positions with
    the largest u^(1/w), where u is uniform and w the weight."""
    # A position with a single token (the judge knows no other) has nothing to try.
    candidates = [i for i, choice in enumerate(choices) if len(choice.tokens) > 1]
    weight = {i: weights[i] + config.floor for i in candidates}
    candidates.sort(key=lambda i: -(uniform(key, i) ** (1 / weight[i])))
    return sorted(candidates[: config.positions])


def _verdict(prompt: Prompt, text: str, grade: Grade) -> float:
    right = grade(prompt, text)
    if right is None:
        raise PromptError(
            f"prompt {prompt.id} has no expected answer, which explore.scorer: verifier needs"
        )
    return float(right)
