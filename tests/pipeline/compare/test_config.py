"""Arms as a config names them."""

import pytest

from pipeline.compare.arms import arms_of
from pipeline.compare.config import CompareConfig
from pipeline.config import load
from pipeline.errors import ConfigError

TWO = ["arms.greedy.decoding.method=greedy", "arms.best.decoding.method=best_of_n"]


def test_an_arm_is_the_base_with_other_settings():
    config = load(CompareConfig, overrides=[*TWO, "seed=7", "arms.best.decoding.best_of_n.n=4"])
    greedy, best = arms_of(config)
    assert (greedy.name, greedy.run_dir) == ("greedy", "runs/compare/arms/greedy")
    assert (greedy.config.seed, greedy.config.decoding.method) == (7, "greedy")
    assert (best.config.decoding.method, best.config.decoding.best_of_n.n) == ("best_of_n", 4)
    assert best.config.decoding.best_of_n.rollout == greedy.config.decoding.best_of_n.rollout


def test_an_arm_can_be_taken_out_and_a_run_can_join():
    config = load(CompareConfig, overrides=[*TWO, "arms.best=null", "runs.old=runs/old"])
    assert [(arm.name, arm.run_dir, arm.config is None) for arm in arms_of(config)] == [
        ("greedy", "runs/compare/arms/greedy", False),
        ("old", "runs/old", True),
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arms.greedy.decoding.method=greedy"], "at least two arms, got 1"),
        ([*TWO, "reference=none"], "reference=none is no arm; there are greedy, best"),
        ([*TWO, "arms.best=7"], "arms.best must be settings"),
        ([*TWO, "arms.Greedy.seed=1"], "'greedy' and 'Greedy' would share the folder"),
        ([*TWO, "arms.best.run_dir=x"], "arms.best.run_dir: runs.best takes one"),
        ([*TWO, "runs.best=x"], "best is in both"),
        ([*TWO, "bootstrap.resamples=1"], "resamples must be at least 100"),
    ],
)
def test_settings_that_are_no_comparison(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(CompareConfig, overrides=overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.best.decoding.metod=nabla", "arms.best: decoding.metod: no such key; did you mean"),
        ("arms.best.decoding.best_of_n.n=0", "arms.best: .*n must be at least 1"),
        ("arms.best.seed=one", "arms.best: seed: "),
    ],
)
def test_an_error_in_an_arm_names_the_arm_and_the_key(override, message):
    config = load(CompareConfig, overrides=[*TWO, override])
    with pytest.raises(ConfigError, match=message):
        arms_of(config)
