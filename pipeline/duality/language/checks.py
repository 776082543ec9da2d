"""Part language: the embedded LM with its judge and guide, RL policies, and samplers.

The responses cannot be enumerated. The frontier is estimated only where importance sampling
allows it; RL policies are measured by their own log-probabilities; samplers without a density
get a reward, an interval for their KL, and an accuracy, because a reward can be hacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from nabla_core import DTO, NablaConfig, Ranked, Runtime, Sampling, Select, load_engines, nabla
from nabla_core.embedded import task
from nabla_core.proposals.dto import learning_rate
from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.language.arm_recorder import BOUND_BETAS, ArmRecorder
from pipeline.duality.language.arms import (
    ENGINE_BATCH,
    draw,
    record_best_of_n,
    record_policy,
    record_sampler,
)
from pipeline.duality.language.config import LanguageConfig, RlooConfig
from pipeline.duality.language.embedded_models import MAX_TOKENS, EmbeddedModels, Sample
from pipeline.duality.language.estimators import estimate_optimum
from pipeline.duality.language.mh_agreement import check_mh
from pipeline.duality.language.rloo import rloo

UNFILTERED = Sampling(temperature=1.0)
# Responses of an RL policy to each prompt.
POLICY_SAMPLES = 512

Weights = Mapping[str, Tensor]


def train(settings: RlooConfig, beta: float, seed: int) -> Weights:
    """The weights of an RL policy."""
    models = EmbeddedModels([])
    return rloo(models.lm, models.judge, beta, settings, seed=seed).state_dict()


def run(settings: LanguageConfig, seed: int, policies: Sequence[Weights]) -> PartResults:
    """Every arm on the prompts of a seed; `policies` are RL policies, one for each beta."""
    results = PartResults("language")
    models = EmbeddedModels(task.prompts(settings.prompts, seed=seed, split="test"))
    generator = torch.Generator().manual_seed(seed)
    reference = models.sample(models.lm, settings.reference_samples, generator)
    betas = sorted({*BOUND_BETAS, *settings.betas}, reverse=True)
    # The additional betas are large, so estimable: they bound the KL of samplers from below.
    optima = {beta: estimate_optimum(reference.reward, beta) for beta in betas}
    recorder = ArmRecorder(results, reference.reward, optima, seed)
    recorder.frontier()
    # First of all arms: the others are compared with it.
    record_policy(recorder, "reference LM", reference)
    _reach(recorder, models, reference)
    for beta, weights in zip(settings.betas, policies, strict=True):
        policy = models.policy(weights)
        arm = f"RLOO, {settings.rloo.steps} steps, beta {beta:g}"
        record_policy(recorder, arm, models.sample(policy, POLICY_SAMPLES, generator))
    for n in (4, 16, 64):
        record_best_of_n(recorder, reference, n)
    engines = load_engines("embedded", runtime=Runtime(max_batch=ENGINE_BATCH))
    for name, config in searches().items():
        # Greedy rollouts make the search deterministic.
        count = 1 if config.rollout.temperature == 0 else settings.samples
        method = partial(nabla, config=config, seed=seed, max_tokens=MAX_TOKENS)
        sample, _ = draw(models, engines, method, count)
        record_sampler(recorder, name, reference, sample)
    check_mh(
        recorder,
        models,
        engines,
        reference,
        settings.betas,
        chains=settings.mh_chains,
        steps=settings.mh_steps,
    )
    return results


def searches() -> dict[str, NablaConfig]:
    """Nabla decoding in four settings.

    Those of configs/embedded.yaml; the same with sampled rollouts, so that it starts from the
    reference law; its null arm, without the gradient; and the published settings.
    """
    greedy = Sampling(temperature=0)
    ranked = NablaConfig(
        proposals="ranked",
        ranked=Ranked(beta=1.0, min_score=-3.0, reward_weight=2.0),
        max_rollouts=8,
        rollout=greedy,
    )
    published = NablaConfig(rollout=UNFILTERED, select=Select(0.97), dto=DTO())
    return {
        "nabla, ranked, greedy rollouts": ranked,
        "nabla, ranked, sampled rollouts": replace(ranked, rollout=UNFILTERED),
        "null arm: ranked without gradient, sampled": replace(
            ranked, rollout=UNFILTERED, ranked=replace(ranked.ranked, beta=None)
        ),
        "nabla, published settings, sampled rollouts": published,
    }


def _reach(recorder: ArmRecorder, models: EmbeddedModels, reference: Sample) -> None:
    """The share of tokens that DTO at the published settings can change.

    Adam moves a logit by at most about the sum of its learning rates, so the two best logits
    of a token must be within twice that (see `pipeline.duality.tokens.released.reach`).
    """
    config = DTO()
    reach = 2 * float(learning_rate(config, torch.arange(config.max_iters)).sum())
    margins = models.margins(reference.responses[:, :64])
    share = float((margins <= reach).double().mean())
    recorder.results.report(names.IN_REACH, "DTO published", recorder.seed, share)
