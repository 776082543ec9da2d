"""Part policy: a reference and an RL-tuned checkpoint of yours, over the Ray path.

Samples 0 to `samples` - 1 of a prompt are the policy's, those after them the reference's,
each a row of the same store as other jobs': sharded, committed, resumable.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.duality.checkpoints.config import Policy
from pipeline.duality.checkpoints.rows import PolicyRecipe
from pipeline.duality.findings import Book
from pipeline.errors import InputError
from pipeline.inputs.prompts import read
from pipeline.run.driver import execute
from pipeline.run.plan import Plan, Watcher
from pipeline.store import config_check
from pipeline.store.files import below
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore

READ = ("prompt_id", "sample", "arm", "log_p_ref", "log_p_policy", "reward", "correct", "error")


@dataclass(frozen=True)
class RunConfig:
    """The config that the part's run folder holds."""

    seed: int
    policy: Policy


def plan(settings: Policy, run_dir: str, seed: int) -> Plan:
    """What part policy will do. Reads nothing yet."""
    described = RunConfig(seed, settings)
    config_hash = config_check.digest(described)
    return Plan(
        run_dir=below(run_dir, "policy"),
        source=settings.prompts.path,
        read=lambda: read(settings.prompts),
        samples=settings.samples + settings.reference_samples,
        recipe=PolicyRecipe(settings, seed, config_hash),
        config=described,
        cluster=settings.cluster,
        store=settings.store,
        max_attempts=settings.max_attempts,
        max_dead_fraction=0.1,
        allow_input_change=False,
        retry_dead=False,
    )


def run(settings: Policy, run_dir: str, seed: int, watcher: Watcher) -> Book:
    """Make the rows that are missing, then measure. Raises InputError naming the first
    prompt that could not be processed: an expectation over the others would be another one."""
    from pipeline.duality.checkpoints.measure import measure  # noqa: PLC0415 - torch

    described = plan(settings, run_dir, seed)
    outcome = execute(described, watcher)
    schema = with_config(described.recipe.schema, described.config_hash)
    store = RunStore(described.run_dir, schema, settings.store)
    tables = store.rows(READ, final=not outcome.aborted)
    rows = [row for table in tables for row in table.to_pylist()]
    dead = [row for row in rows if row["error"] is not None]
    if dead:
        first = dead[0]
        raise InputError(
            f"{len(dead)} responses could not be measured, first prompt "
            f"{first['prompt_id']} sample {first['sample']}: {first['error']}"
        )
    return measure(rows, settings, seed)
