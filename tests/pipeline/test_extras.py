import pytest

from nabla_core.guide_training.settings import Lora
from pipeline.errors import ConfigError
from pipeline.extras import require, require_for_lora


def test_a_package_that_is_installed_is_enough():
    require("pyarrow", "train", "a setting")


def test_a_missing_package_is_named_with_its_extra_and_the_way_around_it():
    with pytest.raises(ConfigError) as failure:
        require("no_such_package", "train", "some.key=1", "some.key=0")
    for words in (
        "some.key=1 needs no_such_package",
        "run pip install -e '.[train]'",
        "or some.key=0",
    ):
        assert words in str(failure.value)


def test_adapters_need_their_package_and_full_weights_do_not(monkeypatch):
    monkeypatch.setattr("pipeline.extras.find_spec", lambda package: None)
    require_for_lora(Lora(rank=0))
    with pytest.raises(ConfigError, match=r"optimise\.lora\.rank=8 needs peft"):
        require_for_lora(Lora(rank=8))
