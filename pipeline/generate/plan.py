"""`jobs.generate` as a plan: prompts in, refined traces out.

Does not import ray.
"""

from __future__ import annotations

from pipeline.generate.config import GenerateConfig
from pipeline.generate.recipe import TraceRecipe
from pipeline.run.plan import Plan, planned


def plan(config: GenerateConfig, *, retry_dead: bool = False) -> Plan:
    """The plan of `generate`. See `planned`."""

    def recipe(config: GenerateConfig, config_hash: str) -> TraceRecipe:
        return TraceRecipe(
            lm=config.lm,
            reward=config.reward,
            decoding=config.decoding,
            runtime=config.runtime,
            verify=config.verify,
            candidates=config.store.candidates,
            seed=config.seed,
            config_hash=config_hash,
        )

    return planned(
        "generate", config, recipe, samples=config.samples_per_prompt, retry_dead=retry_dead
    )
