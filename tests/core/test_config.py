"""Settings that are refused, and what a config needs of its guide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nabla_core.config import (
    DTO,
    MH,
    BestOfN,
    Decoding,
    Majority,
    NablaConfig,
    Ranked,
    Sampling,
)
from nabla_core.model_config import Reward, Runtime


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ranked(beta=0.0), r"ranked\.beta must be above 0, or null"),
        (lambda: Ranked(reward_weight=-1.0), r"ranked\.reward_weight must be at least 0"),
        (lambda: Ranked(nucleus=0.0), r"nucleus must be in \(0, 1\]"),
        (lambda: DTO(beta=0.0), r"dto\.beta must be above 0"),
        (lambda: DTO(warmup_steps=21), "warmup_steps must be in 0..max_iters=20"),
        (lambda: DTO(optimizer="mirror", variable="latents"), "no latents variant"),
        (lambda: NablaConfig(dto=DTO(weight_decay=0.1)), r"exact: true refuses dto\.weight_decay"),
        (lambda: NablaConfig(speculate=0), "speculate must be at least 1"),
        (lambda: Sampling(top_p=0.0), r"top_p must be in \(0, 1\]"),
        (lambda: Sampling(beta=0.0), "beta must be above 0 and finite, or null for no guide"),
        (lambda: NablaConfig(resample=Sampling(beta=1.0)), "resample.beta must be null"),
        (lambda: NablaConfig(resample=Sampling(min_p=0.1)), "resample.min_p must be 0"),
        (lambda: Sampling(min_p=1.5), "min_p must be in"),
        (lambda: Decoding(guided=Sampling(0)), r"guided\.beta must be set"),
        (lambda: MH(rollout=Sampling(0.0)), "a greedy reference is one response"),
        (lambda: Decoding(max_tokens=0), "max_tokens must be at least 1"),
        (lambda: Reward(min_coverage=0.0), r"min_coverage must be in \(0, 1\]"),
        (lambda: Runtime(max_batch=0), "max_batch must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("config", "takes", "needs"),
    [
        (NablaConfig(), True, True),
        (NablaConfig(dto=DTO(optimizer="mirror")), True, False),
        (NablaConfig(proposals="ranked"), True, False),
        (NablaConfig(proposals="ranked", ranked=Ranked(beta=None)), False, False),
        (NablaConfig(proposals="second"), False, False),
    ],
)
def test_which_configs_use_a_guide_and_which_need_a_gradient(
    config: NablaConfig, takes: bool, needs: bool
):
    assert (config.uses_guide, config.needs_gradient) == (takes, needs)


def test_each_method_names_how_it_draws_responses():
    led = Sampling(0.7, beta=0.5)
    settings: dict[str, Any] = {
        "nabla": NablaConfig(rollout=led),
        "guided": led,
        "sample": led,
        "best_of_n": BestOfN(2, led),
        "majority": Majority(2, led),
        "mh": MH(rollout=led),
    }
    for method, value in settings.items():
        asked: dict[str, Any] = {"method": method, method: value}
        assert Decoding(**asked).rollout == led
        assert Decoding(method="greedy", **{method: value}).rollout == Sampling(0)
