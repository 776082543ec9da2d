"""Arms as a config names them."""

import os

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


def test_a_name_with_a_dot_is_quoted_on_the_command_line_and_stands_in_a_file(tmp_path):
    override = 'arms."beta 0.5, x=1".lm.path=${oc.env:HOME}'
    config = load(CompareConfig, overrides=[*TWO, override])
    arm = arms_of(config)[-1]
    assert (arm.name, arm.run_dir) == ("beta 0.5, x=1", "runs/compare/arms/beta-0-5-x-1")
    assert arm.config.lm.path == os.environ["HOME"]
    file = tmp_path / "arms.yaml"
    file.write_text("arms: {beta 0.5: {seed: 5}}\n")
    config = load(CompareConfig, [file], [*TWO, 'arms."beta 0.5".decoding.method=greedy'])
    arm = next(arm for arm in arms_of(config) if arm.name == "beta 0.5")
    assert (arm.config.seed, arm.config.decoding.method) == (5, "greedy")
    config = load(CompareConfig, overrides=[*TWO, 'runs."a.b"=runs/old'])
    assert arms_of(config)[-1].name == "a.b"


def test_a_name_with_a_dot_that_is_not_quoted_is_told():
    config = load(CompareConfig, overrides=[*TWO, "arms.RL beta 0.125.seed=1"])
    with pytest.raises(
        ConfigError, match=r'arms\.RL beta 0: 125\.seed: .*\n.*arms\."RL beta 0\.125"'
    ):
        arms_of(config)
    with pytest.raises(ConfigError, match=r'arms\."beta 0\.5"\.seed=1'):
        load(CompareConfig, overrides=[*TWO, 'arms."open.seed=1'])
