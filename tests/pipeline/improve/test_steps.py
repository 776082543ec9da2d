"""The settings of the steps of a round."""

from dataclasses import replace

import pytest

from nabla_core.config import Sampling
from nabla_core.model_config import LM, Reward
from pipeline.config import load
from pipeline.errors import ConfigError
from pipeline.improve import steps
from pipeline.improve.config import ImproveConfig, Training
from pipeline.improve.steps import Models


def test_a_later_round_goes_on_with_the_models_before_it_and_new_prompts():
    config = load(ImproveConfig, (), ["run_dir=r", "prompts.limit=5", "prompts.skip=2"])
    start = Models(lm=config.lm, reward=config.reward)
    models = start.with_lm("r/round-1/student/student").with_guide("r/round-1/guide/guide")
    first, second = steps.search(config, 1, start), steps.search(config, 2, models)
    assert (first.prompts.skip, second.prompts.skip) == (2, 7)
    assert (first.reward.guide, second.reward.guide) == (None, "r/round-1/guide/guide")
    assert second.lm == LM("r/round-1/student/student")
    assert steps.evaluate(config, 2, models).prompts == config.eval_prompts

    explored = steps.explore(config, 2, models)
    assert explored.prompts == second.prompts
    assert (explored.explore.choose, explored.reward.guide) == ("guide", second.reward.guide)
    assert steps.explore(config, 1, start).explore == config.explore

    guided = replace(config, explore=replace(config.explore, tail=Sampling(beta=2.0)))
    assert steps.explore(guided, 2, models).explore.tail.beta == 2.0
    # Without a guide there are plain tails.
    assert steps.explore(guided, 1, start).explore.tail.beta is None

    made = {"counterfactuals": ["c1", "c2"], "traces": ["t1"]}
    trained = steps.train(config, 2, models, **made)
    assert trained.start.path == second.reward.guide
    assert (trained.data.counterfactuals, trained.data.traces) == (("c1", "c2"), ("t1",))
    assert trained.seed != steps.train(config, 1, start, **made).seed
    assert trained.reward == Reward()
    fresh = replace(config, training=Training(from_scratch=True, revisions=False))
    trained = steps.train(fresh, 2, models, **made)
    assert trained.start == fresh.training.start
    assert trained.data.traces == ()


def test_samples_and_greedy_answers_ask_no_guide_and_samples_no_judge():
    config = load(ImproveConfig, (), ["reward.guide=embedded-head", "samples.count=3"])
    models = Models(lm=config.lm, reward=config.reward)
    sampled = steps.samples(config, 1, models)
    assert (sampled.decoding.method, sampled.decoding.majority.n) == ("majority", 1)
    assert sampled.decoding.majority.rollout == config.samples.sampling
    assert (sampled.samples_per_prompt, sampled.reward.guide) == (3, None)
    for run in (
        steps.greedy(config, 1, models),
        steps.evaluate_greedy(config, 1, models),
        steps.validate_greedy(config, 1, models),
    ):
        assert (run.decoding.method, run.reward.guide) == ("greedy", None)
    assert steps.validate(config, 1, "x", models).reward.guide == "embedded-head"
    assert steps.validate(config, 1, "x", models).prompts == config.training.validation.prompts


def test_a_student_is_measured_on_the_validation_prompts():
    given = ["distill.metric=reward", "distill.from_scratch=true", "distill.every=7"]
    config = load(ImproveConfig, (), [*given, "cluster.address=head:1"])
    models = Models(lm=LM("student"), reward=config.reward)
    made = steps.distill(config, 2, models, ["a", "b"])
    assert made.student == config.lm
    assert made.export.run_dir == ("a", "b")
    assert (made.validation.judge, made.validation.every) == ("embedded", 7)
    assert made.validation.prompts == config.training.validation.prompts
    assert made.workers.address == "head:1"
    going_on = replace(config, distill=replace(config.distill, from_scratch=False))
    assert steps.distill(going_on, 2, models, ["a"]).student == LM("student")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("steps=[]", "steps: name some of search, samples, distill, judge, counterfactuals"),
        ("steps=[guide,counterfactuals]", "must be in the order search, samples"),
        ("steps=[guide,guide]", "each at most once"),
        ("steps=[search,samples]", "trains nothing; add one of distill, judge, guide"),
        ("steps=[distill]", "distill needs traces to train on; add search or samples"),
        ("steps=[search,distill,counterfactuals]", "nothing is trained on counterfactuals"),
        ("steps=[samples,guide]", "guide needs data; add counterfactuals, or search"),
        (
            "steps=[search,distill]",
            "distill.filters.verified: a model would be trained on answers; set answers=final",
        ),
        ("steps=[judge]", "steps: judge: a model would be trained on answers"),
        ("judge.temperatures=[0]", "judge.temperatures: name some above 0"),
        ("explore.scorer=verifier", "explore.scorer=verifier: a model would be trained"),
        ("samples.sampling.beta=1", "samples.sampling.beta must be null: plain samples"),
        ("decoding.method=guided", "decoding.guided.beta=1 needs a guide that decodes"),
        ("samples.sampling.temperature=0", "samples.count=8 at samples.sampling.temperature=0"),
    ],
)
def test_steps_that_make_no_sense_or_use_answers_unasked_are_refused(given, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load(ImproveConfig, (), [given])


def test_answers_are_trained_on_where_that_is_allowed_and_traces_without_them_always():
    for given in (
        ["steps=[search,distill]", "answers=final"],
        ["steps=[search,distill]", "distill.filters.verified=false"],
        ["explore.scorer=verifier", "answers=final"],
    ):
        load(ImproveConfig, (), given)
