"""Runs on the tables against the computed laws."""

import torch

from pipeline.duality.frontier import total_variation
from pipeline.duality.tokens.dto_law import decoding_law
from pipeline.duality.tokens.enumerable import (
    EnumeratedModels,
)
from pipeline.duality.tokens.metrics import sampling_bound
from pipeline.duality.tokens.monte_carlo import decode
from pipeline.duality.tokens.released import NULL, released


def test_monte_carlo_runs_have_the_law_computed_for_them(models: EnumeratedModels):
    generator = torch.Generator().manual_seed(0)
    configs = {setting.name: setting.config for setting in released()}
    null = decoding_law(models, configs[NULL])
    for name in ("lr .1, 50 steps, lambda 4", "mirror, beta 1, resample at 1"):
        law = decoding_law(models, configs[name])
        seen = decode(models, configs[name], 20_000, generator)
        seen = seen / seen.sum()
        bound = sampling_bound(law, 20_000, generator)
        assert total_variation(seen, law) <= bound < total_variation(seen, null)
