"""`jobs.counterfactuals` as a plan: prompts in, responses with scored alternatives out.

Each prompt is explored once at each temperature. The `sample` column holds the index of the
temperature.

Does not import ray.
"""

from __future__ import annotations

from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.recipe import CounterfactualRecipe
from pipeline.run.plan import Plan, planned


def plan(config: CounterfactualsConfig, *, retry_dead: bool = False) -> Plan:
    """The plan of `counterfactuals`. See `planned`."""

    def recipe(config: CounterfactualsConfig, config_hash: str) -> CounterfactualRecipe:
        return CounterfactualRecipe(
            lm=config.lm,
            reward=config.reward,
            explore=config.explore,
            runtime=config.runtime,
            verify=config.verify,
            max_tokens=config.max_tokens,
            seed=config.seed,
            config_hash=config_hash,
        )

    # One row for each temperature: `explore` takes it from the number of the sample.
    samples = len(config.explore.temperatures)
    return planned("counterfactuals", config, recipe, samples=samples, retry_dead=retry_dead)
