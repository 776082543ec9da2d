"""Part language at a reduced size."""

import pytest

from pipeline.config import load
from pipeline.duality.findings import failed_self_checks
from pipeline.duality.language import checks as language
from pipeline.duality.language.config import LanguageConfig, RlooConfig
from pipeline.generate.config import GenerateConfig

SMALL = LanguageConfig(
    betas=(4.0, 1.0),
    prompts=3,
    reference_samples=1000,
    samples=6,
    mh_chains=64,
    mh_steps=30,
    rloo=RlooConfig(steps=2, prompts_per_step=8, group_size=4),
)


@pytest.mark.long
def test_the_sampler_agrees_with_importance_sampling_and_its_controls_do_not():
    trained = [language.train(SMALL.rloo, beta, 0) for beta in SMALL.betas]
    results = language.run(SMALL, 0, trained)
    assert [(f.check, f.arm, f.value) for f in failed_self_checks(results.findings)] == []
    assert [f.arm for f in results.findings if f.kind == "positive"] == ["method mh, beta 4"] * 2
    assert len([f for f in results.findings if f.kind == "control"]) == 2
    here = {(f.arm, f.check): f.value for f in results.findings}
    arms = {f.arm for f in results.findings if f.check == "accuracy"}
    assert len(arms) == 1 + 2 + 3 + 4 + 2
    for arm in arms:
        assert 0 <= here[arm, "accuracy"] <= 1
        assert here[arm, "every step correct"] <= here[arm, "accuracy"]
    assert here["reference LM", "KL to the reference"] == 0
    # Two logits of a trained LM are seldom within reach of twenty small steps.
    assert 0 <= here["DTO published", "share of tokens within reach"] < 0.02
    for n in (4, 16, 64):
        low, high = (
            here[f"best of {n}", f"KL to the reference, {end}"] for end in ("at least", "at most")
        )
        assert low <= high
    greedy = "nabla, ranked, greedy rollouts"
    # A deterministic decoder's KL is its surprise.
    assert here[greedy, "KL to the reference, at most"] == pytest.approx(
        -here[greedy, "E[log p_ref]"]
    )


def test_the_search_is_that_of_the_config_file():
    asked = load(GenerateConfig, ["configs/embedded.yaml"]).decoding.nabla
    assert language.searches()["nabla, ranked, greedy rollouts"] == asked
