"""Arms of a comparison without a run: responses given as (reward, correct)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.compare.results import COSTS, Response, Results, Step

Given = tuple[float | None, bool | None]


def response(
    sample: int,
    reward: float | None,
    correct: bool | None,
    *,
    predicted: str | None = None,
    base_correct: bool | None = None,
    revised: bool = False,
    tokens: int = 4,
    cost: float = 1.0,
) -> Response:
    """A response; every cost is `cost`."""
    return Response(
        sample=sample,
        tokens=tokens,
        reward=reward,
        correct=correct,
        base_correct=base_correct,
        predicted=predicted,
        costs=dict.fromkeys(COSTS, cost),
        steps=[Step(True, reward, None)] if revised else [],
    )


def arm(name: str, prompts: Mapping[str, Sequence[Given]], cost: float = 1.0) -> Results:
    """An arm with these responses to each prompt; the right ones answer 7, and the wrong ones 8."""
    answers = {True: "7", False: "8", None: None}
    return Results(
        name=name,
        run_dir=f"runs/{name}",
        method="sample",
        responses={
            prompt: [
                response(n, reward, correct, predicted=answers[correct], cost=cost)
                for n, (reward, correct) in enumerate(group)
            ]
            for prompt, group in prompts.items()
        },
        fingerprints={prompt: f"text of {prompt}" for prompt in prompts},
    )
