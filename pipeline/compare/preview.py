"""A dry run of `compare`: what each arm would fail at, and what it would do."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.compare.config import CompareConfig
from pipeline.compare.job import check
from pipeline.generate.preview import preview as generate_preview
from pipeline.preview.rows import Preview


@dataclass(frozen=True, kw_only=True)
class ArmPreview:
    """An arm: what its run would do, or how many prompts a run folder that joins holds."""

    name: str
    run_dir: str
    preview: Preview | None
    prompts: int


def preview(config: CompareConfig) -> list[ArmPreview]:
    """Check every arm and change nothing. Raises PipelineError and ModelError."""
    found = []
    for arm, asked in check(config):
        one = None if arm.config is None else generate_preview(arm.config)
        prompts = len(asked.fingerprints)
        found.append(ArmPreview(name=arm.name, run_dir=arm.run_dir, preview=one, prompts=prompts))
    return found
