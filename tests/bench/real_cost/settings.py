"""What settings are worth, for `tests.bench.real_cost`: betas of the shipped head, and `min_score`
on a real vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from nabla_core import NablaConfig, Prompt, Ranked, Reward, Sampling, drive, load_engines
from nabla_core.draws import DrawKey
from nabla_core.embedded import task
from nabla_core.engines.base import Engines
from nabla_core.guide_training.examples import Record
from nabla_core.guide_training.strength import strength
from nabla_core.guides.base import Gradients
from nabla_core.requests import Render, RequestGenerator, Rollout, Sweep, ask
from nabla_core.types import Cost
from tests.bench.arms import GREEDY
from tests.bench.real_cost import models as real_models
from tests.bench.real_cost.models import Models
from tests.bench.real_cost.timing import Plan, Row


@dataclass
class _Swept:
    prompt: Prompt
    gradients: Gradients
    cost: Cost = field(default_factory=Cost)


def _swept(engines: Engines, prompts: list[Prompt], limit: int, rollout: Sampling) -> list[_Swept]:
    """The sweeps of a response to each prompt, without a guide."""
    config = NablaConfig(proposals="ranked", ranked=Ranked(beta=None), rollout=rollout)

    def flow(prompt: Prompt) -> RequestGenerator[_Swept]:
        context = yield from ask(Render(prompt))
        key = DrawKey(0, prompt.id, 0, "rollout")
        response = yield from ask(Rollout(context, (), limit, rollout, key))
        swept = yield from ask(Sweep(context, response, 0, config))
        return _Swept(prompt, swept.gradients)

    return list(drive((flow(prompt) for prompt in prompts), engines))


def betas(plan: Plan) -> Iterator[Row]:
    """For each divergence from the LM (nats a token) the beta of the shipped head that has it, on
    drawn responses to validation prompts."""
    engines = load_engines(reward=Reward("embedded", guide="embedded-head"))
    guide: Any = engines.serving(Sweep)._guide  # type: ignore[attr-defined]
    prompts = task.prompts(8 if plan.rounds == 1 else 200, seed=0, split="validation")
    records = [
        Record(one.prompt.id, one.prompt, one.gradients.response.tokens, 0.0, ())
        for one in _swept(engines, prompts, 20, Sampling(1.0))
    ]
    for kl in (0.02, 0.05, 0.1, 0.15):
        found = strength(guide, engines, records, kl=kl, positions=1 << 30)
        if found is not None:
            details = {"gain": f"{found.gain:.3g} a token", "positions": found.positions}
            yield Row(f"beta at {kl:g} nats", found.beta, details)


def pairs(models: Models, plan: Plan) -> Iterator[Row]:
    """How many replacements of greedy responses have a score above a bound, by likelihood alone."""
    swept = _swept(models.engines(device=plan.device), real_models.prompts(5), 48, GREEDY)
    for bound in (-1.0, -3.0):
        counts, near = [], []
        for one in swept:
            logits = models.lm.logits(one.gradients.lm.hidden)
            own = torch.tensor(one.gradients.response.tokens, device=logits.device)[:, None]
            score = (logits - logits.gather(-1, own)).scatter_(-1, own, float("-inf"))
            counts.append(int((score > bound).sum()))
            near.append(int((score > score.max() + bound).sum()))
        details = {
            "most": max(counts),
            f"within {-bound:g} of the best": f"{min(near)} to {max(near)}",
        }
        yield Row(f"pairs above {bound:g}", float(min(counts)), details)
