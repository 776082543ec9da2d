"""A dry run of `generate`."""

from __future__ import annotations

from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.preview import cost, rows


def preview(config: GenerateConfig) -> rows.Preview:
    """Check a run and see what it would do. Raises PipelineError and ModelError."""
    planned = plan(config)
    decoding = config.decoding
    return rows.preview(
        planned,
        planned.config,
        max_tokens=decoding.max_tokens,
        search=decoding.nabla if decoding.method == "nabla" else None,
        rollout=decoding.rollout,
        expected=lambda models, prompt: cost.of_decoding(decoding, models, prompt),
        decoding=decoding,
    )
