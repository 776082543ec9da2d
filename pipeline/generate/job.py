"""The job `generate`: its plan, executed on Ray."""

from __future__ import annotations

from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.run.driver import execute
from pipeline.run.plan import RunOutcome, Watcher


def generate(config: GenerateConfig, watcher: Watcher, *, retry_dead: bool = False) -> RunOutcome:
    """Make the traces of every prompt of the config, each exactly once, or resume that.

    Raises PipelineError. KeyboardInterrupt leaves a folder that can be resumed.
    """
    return execute(plan(config, retry_dead=retry_dead), watcher)
