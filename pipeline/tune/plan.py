"""`jobs.tune` as a plan: one run of every candidate on every validation prompt.

A row is a trace. Its `sample` column holds the index of the candidate that made it.

Does not import ray.
"""

from __future__ import annotations

from pipeline.run.plan import Plan, planned
from pipeline.tune.candidates import candidates
from pipeline.tune.config import TuneConfig
from pipeline.tune.recipe import TuneRecipe


def plan(config: TuneConfig) -> Plan:
    """The plan of `tune`. See `planned`."""
    tried = candidates(config.decoding, config.grid)

    def recipe(config: TuneConfig, config_hash: str) -> TuneRecipe:
        return TuneRecipe(
            lm=config.lm,
            reward=config.reward,
            decoding=config.decoding,
            runtime=config.runtime,
            verify=config.verify,
            seed=config.seed,
            config_hash=config_hash,
            decodings=tuple(candidate.decoding for candidate in tried),
        )

    return planned("tune", config, recipe, samples=len(tried))
