"""Keys that do not exist lead to those that may be meant."""

import pytest

from pipeline.config import load
from pipeline.config_keys import nearest
from pipeline.errors import ConfigError, UnknownKeyError
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.tune.config import TuneConfig
from tests.pipeline.test_config import JOBS
from tests.pipeline.test_renamed_keys import keys


@pytest.mark.parametrize(
    ("config", "key", "meant"),
    [
        # The same name in another section.
        (GenerateConfig, "max_tokens", ["decoding.max_tokens"]),
        (GenerateConfig, "judge", ["reward.judge"]),
        (GenerateConfig, "ranked.beta", ["decoding.nabla.ranked.beta"]),
        (GenerateConfig, "method", ["decoding.method", "verify.method"]),
        (ImproveConfig, "floor", ["explore.floor"]),
        (TrainGuideConfig, "lora.rank", ["optimise.lora.rank"]),
        # Spelled alike, in its section and in others.
        (GenerateConfig, "sed", ["seed"]),
        (GenerateConfig, "lm.pathh", ["lm.path"]),
        (GenerateConfig, "max_token", ["decoding.max_tokens"]),
        (GenerateConfig, "gpus", ["cluster.gpus_per_actor"]),
        (TuneConfig, "decoding.nabla.rankd.beta", ["decoding.nabla.ranked.beta"]),
        (GenerateConfig, "decodin.max_tokens", ["decoding.max_tokens"]),
        # Nothing like it, and a section is no advice for what is in it.
        (GenerateConfig, "decoding.xyzw", []),
        (GenerateConfig, "xyzzy", []),
    ],
)
def test_the_nearest_key_is_found_in_the_whole_tree(config, key, meant):
    assert nearest(key, config) == meant


@pytest.mark.parametrize("job", JOBS)
def test_the_last_part_of_every_key_of_every_job_leads_to_the_key(job):
    config = JOBS[job]
    every = list(keys(config))
    outer = {key.partition(".")[0] for key in every}
    for key in every:
        last = key.rpartition(".")[2]
        if last not in outer:
            found = nearest(last, config)
            assert all(other.rpartition(".")[2] == last for other in found)
            assert key in found or len(found) == 6


def test_all_unknown_keys_of_a_file_are_named_at_once(tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text("max_tokens: 40\nlm: {pathh: x}\nseed: 3\nengine: {dtype: float32}\n")
    with pytest.raises(UnknownKeyError) as failure:
        load(GenerateConfig, [file])
    assert str(failure.value).splitlines() == [
        f"{file}: engine was renamed: write runtime",
        f"{file}: max_tokens: no such key; did you mean decoding.max_tokens?",
        f"{file}: lm.pathh: no such key; did you mean lm.path?",
    ]
    assert failure.value.keys == ("max_tokens", "lm.pathh", "engine.dtype")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lm=models/lm", "lm is a section: write lm.path=...; its keys are path, revision"),
        ("verify=math", "verify is a section: write verify.method=...; its keys are"),
        ("decoding.nabla.ranked=1", "decoding.nabla.ranked is a section: write"),
        ("lm.path.name=x", "lm.path is one value and not a section"),
        ("seed.a=1", "seed is one value and not a section"),
    ],
)
def test_a_section_and_a_value_do_not_stand_for_each_other(override, message):
    with pytest.raises(ConfigError) as failure:
        load(GenerateConfig, [], [override])
    assert str(failure.value).startswith(f"override '{override}': {message}")


def test_a_section_may_refer_to_another_one(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("decoding: {sample: {temperature: 0.3}, best_of_n: {rollout: '${..sample}'}}\n")
    assert load(GenerateConfig, [file]).decoding.best_of_n.rollout.temperature == 0.3
