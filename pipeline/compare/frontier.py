"""What a search would have returned after fewer proposals: a run holds the shorter runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from nabla_core.config import Decoding
from pipeline.compare.curves import Curve
from pipeline.compare.results import SPENT, Response, Results


def frontier(arm: Results, prompts: Sequence[str], decoding: Decoding | None) -> Iterator[Curve]:
    """Accuracy, reward and costs of an arm after at most 1, 2, 4, ... proposals, to as many as it
    made. Nothing where the rows do not tell: no proposals, or their costs unknown; no accuracy
    without grades of the responses on the way (`readings`). Seconds are left out: those of a batch
    belong to no proposal. So are searches with `take: best`: a shorter one would make other
    batches.
    """
    if decoding is not None and decoding.method == "nabla" and decoding.nabla.take == "best":
        return
    responses = [r for p in prompts for r in arm.responses[p]]
    most = max((len(r.steps) for r in responses), default=0)
    known = all(step.spent is not None for r in responses for step in r.steps)
    if most < 1 or not known:
        return
    counts = [2**n for n in range(most.bit_length()) if 2**n < most] + [most]
    graded = all(_stages(r) is not None for r in responses)
    rewarded = all(r.reward is not None for r in responses)
    yield Curve(
        arm=arm.name,
        kind="at most k proposals",
        samples=counts,
        accuracy=[_mean(arm, prompts, _right, k) for k in counts] if graded else None,
        reward=[_mean(arm, prompts, _reward, k) for k in counts] if rewarded else None,
        costs={
            name: [
                fmean(fmean(_cost(r, k, name) for r in arm.responses[p]) for p in prompts)
                for k in counts
            ]
            for name in SPENT
        },
    )


def _mean(
    arm: Results, prompts: Sequence[str], value: Callable[[Response, int], float], k: int
) -> float:
    return fmean(fmean(value(r, k) for r in arm.responses[p]) for p in prompts)


def _stages(response: Response) -> Sequence[bool] | None:
    """The grades of the first response and of that after each accepted proposal."""
    if response.read is not None and response.read.stages is not None:
        return response.read.stages
    # Without an accepted one the first response is the last.
    if not response.revised and response.correct is not None:
        return [response.correct]
    return None


def _right(response: Response, k: int) -> float:
    stages = _stages(response)
    assert stages is not None
    return float(stages[sum(step.accepted for step in response.steps[:k])])


def _reward(response: Response, k: int) -> float:
    # A search that had nothing to propose returned what it began with.
    reward = response.steps[:k][-1].reward if response.steps else response.reward
    assert reward is not None
    return reward


def _cost(response: Response, k: int, name: str) -> float:
    """A search that ended before its k-th proposal cost what it cost in all."""
    if len(response.steps) < k:
        return response.costs[name]
    spent = response.steps[k - 1].spent
    assert spent is not None
    return spent[name]
