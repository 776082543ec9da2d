"""A dry run of `counterfactuals`."""

from __future__ import annotations

from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.plan import plan
from pipeline.preview import cost, rows


def preview(config: CounterfactualsConfig) -> rows.Preview:
    """Check a run and see what it would do. Raises PipelineError and ModelError."""
    planned = plan(config)
    return rows.preview(
        planned,
        planned.config,
        max_tokens=config.max_tokens,
        search=None,
        rollout=config.explore.tail,
        expected=lambda models, prompt: cost.of_exploration(
            config.explore, config.max_tokens, models, prompt
        ),
    )
