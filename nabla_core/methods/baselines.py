"""Methods to compare with, as generators of the same signature as `nabla`.

The null arms of nabla itself (learning rate 0, second choice, random token, ranking without a
guide) are settings of `NablaConfig`: they share every line of the loop.
"""

from __future__ import annotations

from collections.abc import Callable

from nabla_core.config import BestOfN, Majority, Sampling
from nabla_core.draws import DrawKey
from nabla_core.methods.answers import same_answer
from nabla_core.requests import (
    Context,
    Decode,
    Flow,
    Render,
    RequestGenerator,
    Response,
    Rollout,
    Score,
    ask,
    ask_all,
)
from nabla_core.types import Prompt, Trace


def greedy(prompt: Prompt, *, seed: int = 0, max_tokens: int = 1024, judged: bool = True) -> Flow:
    """The LM's most probable token at every step."""
    return sample(prompt, Sampling(temperature=0), seed=seed, max_tokens=max_tokens, judged=judged)


def sample(
    prompt: Prompt,
    sampling: Sampling,
    *,
    seed: int = 0,
    max_tokens: int = 1024,
    judged: bool = True,
) -> Flow:
    """One sampled response, scored by the judge where it is `judged`."""
    context, (response,) = yield from _rollouts(prompt, 1, sampling, seed, max_tokens)
    if not judged:
        return (yield from _trace(prompt, context, [response], None, 0, seed))
    verdict = yield from ask(Score(context, response.tokens))
    return (yield from _trace(prompt, context, [response], [verdict.reward], 0, seed))


def best_of_n(prompt: Prompt, config: BestOfN, *, seed: int = 0, max_tokens: int = 1024) -> Flow:
    """The sample with the highest reward; the base response is the first sample."""
    context, responses = yield from _rollouts(prompt, config.n, config.rollout, seed, max_tokens)
    verdicts = yield from ask_all([Score(context, r.tokens) for r in responses])
    rewards = [verdict.reward for verdict in verdicts]
    # `max` keeps the first of equals.
    best = max(range(len(rewards)), key=rewards.__getitem__)
    return (yield from _trace(prompt, context, responses, rewards, best, seed))


def majority(
    prompt: Prompt,
    config: Majority,
    answer: Callable[[str], str | None],
    *,
    same: Callable[[str, str], bool] = same_answer,
    seed: int = 0,
    max_tokens: int = 1024,
) -> Flow:
    """The first sample that ends in the most frequent answer. No reward model is used.

    `answer(response)` extracts an answer, or None; a response without one has no vote. Two answers
    vote for one if they are the `same`: each is compared with the first of every group of equal
    answers. Of equally frequent answers the one that came first wins.
    """
    context, responses = yield from _rollouts(prompt, config.n, config.rollout, seed, max_tokens)
    texts = yield from ask(Decode(tuple(r.tokens for r in responses)))
    votes: dict[int, int] = {}  # the first sample of each answer, in order, and its votes
    answers = [answer(text) for text in texts]
    for k, given in enumerate(answers):
        if given is not None:
            first = next((first for first in votes if same(answers[first] or "", given)), k)
            votes[first] = votes.get(first, 0) + 1
    # `max` keeps the first of equals. Without any vote the first sample is kept.
    best = max(votes, key=votes.__getitem__, default=0)
    return (yield from _trace(prompt, context, responses, None, best, seed))


def _rollouts(
    prompt: Prompt, n: int, sampling: Sampling, seed: int, max_tokens: int
) -> RequestGenerator[tuple[Context, list[Response]]]:
    context = yield from ask(Render(prompt))
    # Named as in `nabla`: with the same sampling, the first sample is the response it starts from.
    keys = [DrawKey(seed, prompt.id, prompt.sample, f"rollout {k}") for k in range(n)]
    responses = yield from ask_all([Rollout(context, (), max_tokens, sampling, k) for k in keys])
    return context, responses


def _trace(
    prompt: Prompt,
    context: Context,
    responses: list[Response],
    rewards: list[float] | None,
    best: int,
    seed: int,
) -> Flow:
    text, base_text = yield from ask(Decode((responses[best].tokens, responses[0].tokens)))
    return Trace(
        prompt_id=prompt.id,
        sample=prompt.sample,
        prompt_text=context.text,
        text=text,
        tokens=responses[best].tokens,
        finish_reason=responses[best].finish,
        base_text=base_text,
        base_tokens=responses[0].tokens,
        base_reward=rewards[0] if rewards else None,
        reward=rewards[best] if rewards else None,
        revisions=(),
        seed=seed,
    )
