"""Part checkpoints: your reference LM and an LM tuned from it by RL, measured with Ray.

Samples 0 to `samples` - 1 of a prompt are the policy's, those after them the reference's. Each
is a row of a run folder as other jobs write it: sharded, committed, resumable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.duality.checkpoints.config import CheckpointsConfig
from pipeline.duality.checkpoints.models import model_folders
from pipeline.duality.checkpoints.recipe import CheckpointsRecipe
from pipeline.duality.findings import PartResults
from pipeline.errors import InputError
from pipeline.inputs.prompts import read
from pipeline.run.driver import execute
from pipeline.run.dtype import resolve_runtime
from pipeline.run.plan import Plan, Watcher, gradable
from pipeline.run.verify_method import resolve, with_verify
from pipeline.store.checks import config_check
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.uris import below

# Columns that `measure` needs.
COLUMNS = ("prompt_id", "sample", "arm", "log_p_ref", "log_p_policy", "reward", "correct", "error")


@dataclass(frozen=True)
class RunConfig:
    """The config that is stored in the run folder of this part."""

    seed: int
    checkpoints: CheckpointsConfig


def plan(settings: CheckpointsConfig, run_dir: str, seed: int) -> Plan:
    """The work of part checkpoints. Reads nothing yet, unless the method of `verify` is to be
    found (`pipeline.run.verify_method`)."""
    folder = below(run_dir, "checkpoints")
    verify, notes = resolve(settings.verify, folder, settings.prompts, key="checkpoints.verify")
    settings = with_verify(settings, verify)
    runtime, more = resolve_runtime(
        settings.runtime,
        folder,
        model_folders(settings),
        gpus=settings.cluster.gpus_per_actor,
        cluster=bool(settings.cluster.ray_address),
        key="checkpoints.runtime",
    )
    settings = replace(settings, runtime=runtime)
    config = RunConfig(seed, settings)
    config_hash = config_check.digest(config)
    return Plan(
        job="duality",
        run_dir=folder,
        source=settings.prompts.path,
        read=lambda: gradable(read(settings.prompts), settings.verify),
        samples=settings.samples + settings.reference_samples,
        recipe=CheckpointsRecipe(settings, seed, config_hash),
        config=config,
        cluster=settings.cluster,
        store=settings.store,
        max_attempts=settings.max_attempts,
        # Many failures mean a wrong set-up: stop before the rest is generated.
        max_dead_fraction=0.1,
        allow_input_change=False,
        retry_dead=False,
        notes=[*notes, *more],
    )


def run(settings: CheckpointsConfig, run_dir: str, seed: int, watcher: Watcher) -> PartResults:
    """Generate the missing rows, then measure.

    Raises InputError naming the first prompt that failed: a mean over the other prompts would
    be a mean over another set of prompts.
    """
    # It loads torch, which the driver does not need while workers run.
    from pipeline.duality.checkpoints.measure import measure  # noqa: PLC0415

    work = plan(settings, run_dir, seed)
    outcome = execute(work, watcher)
    schema = with_config(work.recipe.schema, work.config_hash)
    store = RunStore(work.run_dir, schema, settings.store)
    tables = store.rows(COLUMNS, final=not outcome.aborted)
    rows = [row for table in tables for row in table.to_pylist()]
    dead = [row for row in rows if row["error"] is not None]
    if dead:
        first = dead[0]
        raise InputError(
            f"{len(dead)} responses could not be measured, first prompt "
            f"{first['prompt_id']} sample {first['sample']}: {first['error']}"
        )
    return measure(rows, settings, seed)
