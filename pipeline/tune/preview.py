"""A dry run of `tune`."""

from __future__ import annotations

from pipeline.preview import cost, rows
from pipeline.preview.cost import Expected
from pipeline.preview.models import Models
from pipeline.tune.candidates import candidates
from pipeline.tune.config import TuneConfig
from pipeline.tune.plan import plan


def preview(config: TuneConfig) -> rows.Preview:
    """Check a run and see what it would do. Raises PipelineError and ModelError."""
    tried = [candidate.decoding for candidate in candidates(config.decoding, config.grid)]
    planned = plan(config)

    def mean(models: Models, prompt: float) -> Expected:
        costs = [cost.of_decoding(decoding, models, prompt) for decoding in tried]
        return sum(costs, Expected()) * (1 / len(costs))

    return rows.preview(
        planned,
        planned.config,
        max_tokens=config.decoding.max_tokens,
        search=config.decoding.nabla if config.decoding.method == "nabla" else None,
        rollout=config.decoding.rollout,
        expected=mean,
    )
