"""Counterfactuals: what a response would have come to, had another token stood at a position.

One prompt's flow: roll out a response; choose positions; put the LM's likeliest tokens there,
roll out a tail behind each, and score what comes out. The token that was taken is tried like
the others, so that all scores of a position are drawn alike. Guides are trained on these
(`nabla_core.guides`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import Sampling
from nabla_core.draws import DrawKey, uniform
from nabla_core.errors import PromptError
from nabla_core.requests import (
    Asking,
    Choices,
    Context,
    Decode,
    Judged,
    Likeliest,
    Render,
    Response,
    Rollout,
    Score,
    ask,
    ask_all,
)
from nabla_core.types import Cost, FinishReason, Prompt


@dataclass(frozen=True)
class Explore:
    """What is tried.

    A response at each of `temperatures`; in each, `positions` positions, drawn without
    replacement with weight (1 - the LM's top probability) + `floor`, so that confident ones
    occur too; at each the LM's `alternatives` likeliest tokens, the one taken among them; of
    each the mean score of `tails` tails drawn by `tail` (one is enough where it is greedy).
    `scorer`: the judge's reward, or (`verifier`) 1 and 0 for a right and a wrong answer.
    """

    temperatures: tuple[float, ...] = (0.0, 0.5, 0.7, 1.0)
    positions: int = 4
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


@dataclass(frozen=True, slots=True)
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
        Rollout(context, (), max_tokens, Sampling(temperature), key("rollout"), keep=True)
    )
    choices = yield from ask(Likeliest(context, response, config.alternatives))
    scorer = _Scorer(prompt, config, grade, context)
    (own,) = yield from scorer.score([response], None)
    tried = [
        (position, token, tail)
        for position in _positions(config, choices, key("positions"))
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
                response.memory,
            )
            for position, token, tail in tried
        ]
    )
    verdicts = yield from scorer.score(tails, own)
    places = _places(config, choices, tried, [verdict.reward for verdict in verdicts])
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
    """The judge, or the verifier, on responses to one prompt."""

    prompt: Prompt
    config: Explore
    grade: Grade
    context: Context

    def score(self, responses: Sequence[Response], like: Judged | None) -> Asking[list[Judged]]:
        """`like` is the response's own score, whose memory the tails share."""
        if self.config.scorer == "judge":
            memory, keep = (like.memory if like else None), like is None
            return (
                yield from ask_all(
                    [Score(self.context, r.tokens, reuse=memory, keep=keep) for r in responses]
                )
            )
        texts = yield from ask(Decode(tuple(r.tokens for r in responses)))
        return [Judged(_verdict(self.prompt, text, self.grade)) for text in texts]


def _places(
    config: Explore,
    choices: Sequence[Choices],
    tried: Sequence[tuple[int, int, int]],
    rewards: Sequence[float],
) -> tuple[Place, ...]:
    """The positions in order, each token with the mean reward of its tails."""
    scores: dict[tuple[int, int], float] = {}
    for (position, token, _), reward in zip(tried, rewards, strict=True):
        scores[position, token] = scores.get((position, token), 0.0) + reward / config.tails
    return tuple(
        Place(
            position,
            choices[position].confidence,
            choices[position].tokens,
            choices[position].log_probabilities,
            tuple(scores[position, token] for token in choices[position].tokens),
        )
        for position in sorted({position for position, *_ in tried})
    )


def _positions(config: Explore, choices: Sequence[Choices], key: DrawKey) -> list[int]:
    """Weighted draws without replacement: the largest u^(1/w), each position its own u."""
    open_ = [i for i, choice in enumerate(choices) if len(choice.tokens) > 1]
    weight = {i: 1 - choices[i].confidence + config.floor for i in open_}
    open_.sort(key=lambda i: -(uniform(key, i) ** (1 / weight[i])))
    return sorted(open_[: config.positions])


def _verdict(prompt: Prompt, text: str, grade: Grade) -> float:
    right = grade(prompt, text)
    if right is None:
        raise PromptError(
            f"prompt {prompt.id} has no expected answer that the verifier could compare with"
        )
    return float(right)
