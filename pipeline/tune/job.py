"""The job `tune`: its plan, executed on Ray."""

from __future__ import annotations

from pipeline.run.driver import execute
from pipeline.run.plan import RunOutcome, Watcher
from pipeline.tune.config import TuneConfig
from pipeline.tune.plan import plan


def tune(config: TuneConfig, watcher: Watcher) -> RunOutcome:
    """Run every candidate on every prompt, or resume that. Raises PipelineError."""
    return execute(plan(config), watcher)
