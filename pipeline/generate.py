"""`jobs.generate` as a plan: prompts in, refined traces out."""

from __future__ import annotations

from pipeline import config_check
from pipeline.config import GenerateConfig, to_dict
from pipeline.plan import Outcome, Plan, Watcher
from pipeline.prompts import read
from pipeline.recipe import TraceRecipe
from pipeline.run import execute

# What else a config says (actors, batch sizes, flushing) changes no row. Prompts are
# compared row by row.
SHAPING = (
    "seed",
    "lm",
    "reward",
    "decoding",
    "engine.device",
    "engine.dtype",
    "verify.method",
)


def plan(config: GenerateConfig, *, retry_dead: bool = False) -> Plan:
    """What `generate` will do. Reads nothing yet."""
    settings = to_dict(config)
    config_hash = config_check.digest(config_check.shaping(settings, SHAPING))
    return Plan(
        run_dir=config.run_dir,
        source=config.prompts.path,
        read=lambda: read(config.prompts),
        samples=config.samples_per_prompt,
        recipe=TraceRecipe(
            config.lm,
            config.reward,
            config.decoding,
            config.engine,
            config.verify,
            config.seed,
            config_hash,
        ),
        settings=settings,
        shaping=SHAPING,
        cluster=config.cluster,
        store=config.store,
        max_attempts=config.max_attempts,
        max_dead_fraction=config.max_dead_fraction,
        allow_input_change=config.allow_input_change,
        retry_dead=retry_dead,
    )


def generate(config: GenerateConfig, watcher: Watcher, *, retry_dead: bool = False) -> Outcome:
    """Make a trace of every prompt of the config, each exactly once; resumes.

    Raises PipelineError; KeyboardInterrupt leaves a folder to resume.
    """
    return execute(plan(config, retry_dead=retry_dead), watcher)
