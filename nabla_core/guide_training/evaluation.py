"""How good a guide is: its agreement with held-out scores, and the search that it guides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nabla_core.config import NablaConfig
from nabla_core.engines.base import Engines
from nabla_core.errors import PromptError
from nabla_core.guide_training.examples import Batch, Example
from nabla_core.guide_training.trainees import Trainee
from nabla_core.methods.nabla import nabla
from nabla_core.scheduler import drive
from nabla_core.types import Prompt, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How well predicted advantages agree with true ones on responses that were not trained on.

    - `top1`: share of positions where the alternative with the highest predicted advantage has
      the highest score. Only the `positions` count where some alternative beats the response's
      own token by more than a margin.
    - `chance`: the value of `top1` for a random choice (several alternatives may share the
      highest score).
    - `within`, `across`: mean rank correlation (Spearman) of predicted and true advantages over
      the alternatives of a position, and over all pairs (position, alternative) of a response.
    - `slope`: least squares through 0 of true on predicted advantages. It is 1 where predictions
      are in units of the score.
    """

    top1: float
    chance: float
    within: float
    across: float
    slope: float
    positions: int

    def as_dict(self) -> dict[str, float]:
        """The figures rounded to 4 decimals, for a report."""
        return {name: round(getattr(self, name), 4) for name in self.__slots__}


def agreement(
    trainee: Trainee, examples: Sequence[Example], *, margin: float, size: int
) -> Agreement:
    """Measure a guide on examples, `size` of them in a batch. Every example has a position."""
    top1: list[float] = []
    chance: list[float] = []
    within: list[float] = []
    across: list[float] = []
    products = squares = 0.0
    for start in range(0, len(examples), size):
        batch = Batch.of(examples[start : start + size], trainee.model.device)
        values, _ = trainee.predict(batch, differentiable=False)
        predicted, true = (v.double() - v.double()[:, :1] for v in (values, batch.scores))
        alternatives = batch.mask.clone()
        alternatives[:, 0] = False
        products += float((predicted * true)[alternatives].sum())
        squares += float((predicted * predicted)[alternatives].sum())
        pairs: dict[int, list[Tensor]] = {}
        rows = zip(batch.row.tolist(), predicted, true, alternatives, strict=True)
        for response, all_predicted, all_true, mask in rows:
            p, t = all_predicted[mask], all_true[mask]
            # Elsewhere nothing can be gained, and which alternative is ranked first is noise.
            if float(t.max()) > margin:
                top1.append(float(t[p.argmax()] == t.max()))
                chance.append(float((t == t.max()).double().mean()))
            if len(t) > 1:
                within.append(spearman(p, t))
            pairs.setdefault(response, []).append(torch.stack([p, t]))
        across += [spearman(*torch.cat(each, 1)) for each in pairs.values()]
    return Agreement(
        top1=_mean(top1),
        chance=_mean(chance),
        within=_mean(within),
        across=_mean(across),
        slope=products / squares if squares else 0.0,
        positions=len(top1),
    )


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two vectors. Equal values share their mean rank; 0 where a vector is
    constant."""
    x, y = (_ranks(v) - (len(v) - 1) / 2 for v in (a, b))
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm else 0.0


def _ranks(values: Tensor) -> Tensor:
    # A rank is the number of smaller values, and half the number of other equal ones.
    below = (values[:, None] > values).sum(1)
    same = (values[:, None] == values).sum(1)
    return below.double() + (same.double() - 1) / 2


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Means over the prompts of a search: the judge's reward, the accuracy (None where no prompt
    has an answer), and model calls as the paper counts them. `flops`: of all searches. `failed` is
    the number of prompts that could not be searched; they are in no figure."""

    reward: float
    accuracy: float | None
    calls: float
    flops: float
    failed: int


def search(
    engines: Engines,
    prompts: Sequence[Prompt],
    config: NablaConfig,
    grade: Callable[[Prompt, str], bool | None],
    *,
    max_tokens: int,
    in_flight: int,
) -> SearchResult:
    """Run the search on prompts, exactly as a run with this guide would.

    `grade` says whether a response to a prompt is right, None where that is unknown. Raises
    PromptError where every prompt fails; it names the first.
    """
    by_id = {(p.id, p.sample): p for p in prompts}
    flows = (nabla(p, config, max_tokens=max_tokens) for p in prompts)
    failures: list[str] = []

    def failed(number: int, error: Exception) -> None:
        if not isinstance(error, PromptError):
            raise error
        failures.append(f"prompt {prompts[number].id}: {error}")

    traces: list[Trace] = list(drive(flows, engines, in_flight=in_flight, failed=failed))
    if not traces:
        raise PromptError(f"none of {len(prompts)} prompts can be searched; {failures[0]}")
    verdicts = [grade(by_id[t.prompt_id, t.sample], t.text) for t in traces]
    right = [float(v) for v in verdicts if v is not None]
    return SearchResult(
        reward=_mean([t.reward or 0.0 for t in traces]),
        accuracy=_mean(right) if right else None,
        calls=_mean([float(t.cost.paper_calls) for t in traces]),
        flops=sum(t.cost.flops for t in traces),
        failed=len(failures),
    )


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Disable gradients of all weights in the block, so that a search costs what it costs later,
    when the guide is not in training."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
