"""The job `counterfactuals`: its plan, executed on Ray."""

from __future__ import annotations

from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.plan import plan
from pipeline.run.driver import execute
from pipeline.run.plan import RunOutcome, Watcher


def counterfactuals(
    config: CounterfactualsConfig, watcher: Watcher, *, retry_dead: bool = False
) -> RunOutcome:
    """Explore every prompt at every temperature, each exactly once, or resume that.

    Raises PipelineError. KeyboardInterrupt leaves a folder that can be resumed.
    """
    return execute(plan(config, retry_dead=retry_dead), watcher)
