"""The settings of the steps of a round."""

from dataclasses import replace

from pipeline.config import load
from pipeline.improve import steps
from pipeline.improve.config import ImproveConfig, Training


def test_a_later_round_goes_on_with_the_guide_and_the_data_before_it():
    config = load(ImproveConfig, (), ["run_dir=r", "prompts.limit=5", "prompts.skip=2"])
    first, guide = steps.search(config, 1, None), "r/round-1/guide/guide"
    second = steps.search(config, 2, guide)
    assert (first.prompts.skip, second.prompts.skip) == (2, 7)
    assert (first.reward.guide, second.reward.guide) == (None, guide)
    assert steps.evaluate(config, 2, guide).prompts == config.eval_prompts

    explored = steps.explore(config, 2, guide)
    assert explored.prompts == second.prompts
    assert (explored.explore.choose, explored.reward.guide) == ("guide", guide)
    assert steps.explore(config, 1, None).explore == config.explore

    trained = steps.train(config, 2, guide)
    assert trained.start.path == guide
    assert trained.data.counterfactuals == tuple(f"r/round-{n}/counterfactuals" for n in (1, 2))
    assert trained.data.traces == tuple(f"r/round-{n}/traces" for n in (1, 2))
    assert trained.seed != steps.train(config, 1, None).seed
    fresh = replace(config, training=Training(from_scratch=True, revisions=False))
    trained = steps.train(fresh, 2, guide)
    assert trained.start == fresh.training.start
    assert trained.data.traces == ()
