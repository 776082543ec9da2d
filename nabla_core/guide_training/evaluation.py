"""What a guide is worth: agreement with held-out scores, and the search it is made for."""

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


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of what a guide says with scores it has not seen.

    `top1`: share of positions where the token it ranks first, of those not taken, has the best
    score, over the `positions` where some token beats the one taken by more than a margin;
    `chance` is what guessing gives there (several may share the best score). `within`,
    `across`: mean rank correlation (Spearman) of its gains with the true ones over the tokens
    of a position, and over all pairs of a response. `slope` of the true gains on its own,
    through 0: the eta that its scale asks for.
    """

    top1: float
    chance: float
    within: float
    across: float
    slope: float
    positions: int

    def as_dict(self) -> dict[str, float]:
        """Rounded, for a report."""
        return {name: round(getattr(self, name), 4) for name in self.__slots__}


def agreement(
    trainee: Trainee, examples: Sequence[Example], *, margin: float, size: int
) -> Agreement:
    """Measure a guide on examples that each have a position, `size` of them at a time."""
    top1: list[float] = []
    chance: list[float] = []
    within: list[float] = []
    across: list[float] = []
    products = squares = 0.0
    for start in range(0, len(examples), size):
        batch = Batch.of(examples[start : start + size], trainee.model.device)
        values, _ = trainee.predict(batch, differentiable=False)
        said, true = (v.double() - v.double()[:, :1] for v in (values, batch.scores))
        others = batch.tried.clone()
        others[:, 0] = False
        products += float((said * true)[others].sum())
        squares += float((said * said)[others].sum())
        pairs: dict[int, list[Tensor]] = {}
        for row, s, t, mask in zip(batch.row.tolist(), said, true, others, strict=True):
            s, t = s[mask], t[mask]  # noqa: PLW2901
            if float(t.max()) > margin:
                top1.append(float(t[s.argmax()] == t.max()))
                chance.append(float((t == t.max()).double().mean()))
            if len(t) > 1:
                within.append(spearman(s, t))
            pairs.setdefault(row, []).append(torch.stack([s, t]))
        across += [spearman(*torch.cat(p, 1)) for p in pairs.values()]
    slope = products / squares if squares else 0.0
    return Agreement(_mean(top1), _mean(chance), _mean(within), _mean(across), slope, len(top1))


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two vectors, equal values sharing their mean rank; 0 where one is
    constant."""
    x, y = (_ranks(v) - (len(v) - 1) / 2 for v in (a, b))
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm else 0.0


def _ranks(values: Tensor) -> Tensor:
    below = (values[:, None] > values).sum(1)
    same = (values[:, None] == values).sum(1)
    return below.double() + (same.double() - 1) / 2


@dataclass(frozen=True, slots=True)
class Searched:
    """Means over prompts: the judge's reward, the share of right answers (None where there are
    no answers to compare with), the paper's calls. `failed` prompts could not be searched."""

    reward: float
    accuracy: float | None
    calls: float
    failed: int


def search(
    engines: Engines,
    prompts: Sequence[Prompt],
    config: NablaConfig,
    grade: Callable[[Prompt, str], bool | None],
    *,
    max_tokens: int,
    in_flight: int,
) -> Searched:
    """Run the loop on prompts, as it will be run with the guide. Raises PromptError naming one
    where none of them can be searched."""
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
    return Searched(
        _mean([t.reward or 0.0 for t in traces]),
        _mean(right) if right else None,
        _mean([float(t.cost.paper_calls) for t in traces]),
        len(failures),
    )


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """No gradient of a weight is kept meanwhile, so that a search costs what it will cost."""
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
