"""Runs of the library's loops against the computed laws."""

from functools import partial

import torch

from nabla_core import DTO, MH, NablaConfig, Objective, Sampling, mh, nabla
from pipeline.duality.frontier import total_variation
from pipeline.duality.tokens.dto_law import decoding_law
from pipeline.duality.tokens.enumerable import (
    EnumeratedModels,
    T,
)
from pipeline.duality.tokens.kernels import follow, suffix_resampling
from pipeline.duality.tokens.library_runs import counts
from pipeline.duality.tokens.metrics import sampling_bound

SETTINGS = {
    "published": NablaConfig(rollout=Sampling(1.0)),
    "many flips": NablaConfig(
        rollout=Sampling(1.0),
        dto=DTO(learning_rate=0.1, max_iters=30),
        objective=Objective(nll_coeff=1.0, reward_coeff=4.0),
    ),
}


def test_the_loop_of_the_library_has_the_law_computed_for_it(models: EnumeratedModels):
    generator = torch.Generator().manual_seed(0)
    laws, seen = {}, {}
    for name, config in SETTINGS.items():
        laws[name] = decoding_law(models, config)
        found = counts(models, partial(nabla, config=config, seed=1, max_tokens=T), 500)
        seen[name] = found / found.sum()
        bound = sampling_bound(laws[name], 500, generator)
        assert total_variation(seen[name], laws[name]) <= bound
    assert total_variation(seen["many flips"], laws["published"]) > bound


def test_method_mh_has_the_law_of_its_kernel(models: EnumeratedModels):
    law, _ = follow(
        suffix_resampling(models, 0.5), models.problem.reference, models.problem.optimum(0.5), 12
    )
    found = counts(models, partial(mh, config=MH(beta=0.5, steps=12), seed=1, max_tokens=T), 500)
    bound = sampling_bound(law, 500, torch.Generator().manual_seed(0))
    assert total_variation(found / found.sum(), law) <= bound
    assert total_variation(found / found.sum(), models.problem.reference) > bound
