"""Estimates from configs alone: models by their shapes, and what does not fit is said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import estimate as command
from nabla_core.config import Decoding
from nabla_core.embedded.weights import folder
from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.estimate.config import Assumed, EstimateConfig
from pipeline.estimate.job import estimate
from pipeline.estimate.shapes import known, models_of
from pipeline.preview.cards import CARDS
from pipeline.preview.cost import of_decoding
from pipeline.preview.models import inspect

# In billions, by the models' cards.
PUBLISHED = {
    "Qwen/Qwen2.5-0.5B-Instruct": 0.49,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.54,
    "Qwen/Qwen2.5-7B-Instruct": 7.61,
    "Qwen/Qwen2.5-14B-Instruct": 14.7,
    "Qwen/Qwen2.5-32B-Instruct": 32.5,
    "Qwen/Qwen3-0.6B": 0.6,
    "Qwen/Qwen3-1.7B": 1.7,
    "Qwen/Qwen3-4B": 4.0,
    "Qwen/Qwen3-8B": 8.2,
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "meta-llama/Llama-3.2-1B-Instruct": 1.23,
    "meta-llama/Llama-3.2-3B-Instruct": 3.21,
}
SEVEN = EstimateConfig(
    lm=LM("Qwen/Qwen2.5-7B-Instruct"),
    reward=Reward(judge="Skywork/Skywork-Reward-V2-Qwen3-4B"),
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_known_shape_has_the_published_number_of_weights(name):
    found = models_of(LM(name), Reward()).lm
    assert found.parameters / 1e9 == pytest.approx(PUBLISHED[name], rel=0.03)


def test_a_reward_model_has_the_body_of_its_base_and_one_output():
    found = models_of(LM(), Reward(judge="Skywork/Skywork-Reward-V2-Llama-3.1-8B")).judge
    assert found.outputs == 1
    assert (
        found.shape.linear
        == models_of(LM("meta-llama/Llama-3.1-8B-Instruct"), Reward()).lm.shape.linear
    )
    assert {name for name in known() if "Skywork" in name} >= {
        f"Skywork/Skywork-Reward-V2-Qwen3-{size}" for size in ("0.6B", "1.7B", "4B", "8B")
    }


@pytest.mark.parametrize("guide", [None, "embedded", "embedded-head"])
def test_a_config_is_enough(tmp_path, guide):
    """The same costs as from whole folders, which a dry run reads."""
    shutil.copy(folder("lm") / "config.json", tmp_path)
    sketched = models_of(LM(str(tmp_path)), Reward(guide=guide))
    whole = inspect(LM(), Reward(guide=guide))
    decoding = Decoding(max_tokens=16)
    assert of_decoding(decoding, sketched, 17) == of_decoding(decoding, whole, 17)
    assert sketched.parameters == whole.parameters
    assert sketched.lm.sizes == whole.lm.sizes


def test_a_model_that_is_not_known_is_named():
    with pytest.raises(ModelError, match=r"nobody/nothing.*\n.*one of the known ids \(Qwen/"):
        models_of(LM("nobody/nothing"), Reward())


def test_more_prompts_take_more_time_and_no_more_memory():
    one = estimate(replace(SEVEN, estimate=Assumed(prompts=1_000)))
    ten = estimate(replace(SEVEN, estimate=Assumed(prompts=10_000)))
    assert ten.hours == pytest.approx(10 * one.hours)
    assert ten.memory == one.memory
    # 7.6 and 4.0 billion weights of two bytes.
    assert one.memory.weights == pytest.approx(23.3e9, rel=0.01)


def test_checkpointing_makes_it_fit():
    whole = estimate(SEVEN).memory
    again = estimate(replace(SEVEN, runtime=Runtime(gradient_checkpointing=True))).memory
    assert whole.total > CARDS["h100"].memory > again.total


def test_decoding_is_bound_by_the_memory_of_a_card():
    greedy = replace(SEVEN, decoding=Decoding(method="greedy"), runtime=Runtime(max_batch=1))
    found = estimate(greedy)
    # One response at a time: for each token the weights are read once.
    reading = 1_024 * found.models.lm.parameters * 2 / CARDS["h100"].bandwidth / 0.3
    assert found.seconds == pytest.approx(reading, rel=0.05)
    twice = replace(greedy, estimate=Assumed(bandwidth_tbs=2 * 3.35))
    assert estimate(twice).seconds == pytest.approx(found.seconds / 2, rel=0.05)


def test_the_command_says_what_does_not_fit(capsys):
    given = [
        *("lm.path=Qwen/Qwen2.5-7B-Instruct", "reward.judge=Skywork/Skywork-Reward-V2-Qwen3-4B"),
        *("estimate.card=l4", "estimate.prompts=8"),
    ]
    assert command.main(given) == 0
    printed = capsys.readouterr()
    line = json.loads(printed.out.splitlines()[-1])
    assert (line["rows"], line["fits"], line["card"]) == (8, False, "l4")
    assert "7.62 billion weights" in printed.out
    assert "not measured" in printed.out
    assert "do not fit l4's 24.0 GB" in printed.err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("estimate.card=abacus", "estimate.card=abacus is none of a10"),
        ("estimate.share=0", "estimate.share must be in"),
        ("estimate.prompt_tokens=0", "estimate.prompt_tokens must be at least 1"),
        ("lm.path=scripted", "lm.path=scripted is no model"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(setting, said, capsys):
    assert command.main([setting]) == 2
    assert said in capsys.readouterr().err


def test_a_card_of_ones_own_needs_its_three_figures():
    with pytest.raises(ValueError, match=r"set estimate\.peak_tflops"):
        Assumed(card="mine", peak_tflops=10.0)
    own = Assumed(card="mine", peak_tflops=10.0, bandwidth_tbs=1.0, memory_gb=8.0)
    found = estimate(replace(SEVEN, estimate=own)).card
    assert (found.flops, found.bandwidth, found.memory) == (1e13, 1e12, 8e9)


def test_the_shapes_are_shipped():
    settings = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert '"pipeline.estimate" = ["shapes.yaml"]' in settings
