from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest

from pipeline.config import load
from pipeline.duality.config import DualityConfig
from pipeline.errors import ConfigError
from pipeline.generate.config import GenerateConfig
from pipeline.renamed_keys import RENAMED, renamed
from pipeline.train_guide.config import TrainGuideConfig
from tests.pipeline.test_config import JOBS

# Old whole keys that are the trailing part of another key of today.
WHOLE = {"policy"}


def keys(config: type, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a config class, sections and all that is in them."""
    hints = get_type_hints(config)
    for field in fields(config):
        yield f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from keys(hints[field.name], f"{prefix}{field.name}.")


KEYS = {key for config in JOBS.values() for key in keys(config)}


def exists(key: str, *, whole: bool = False) -> bool:
    return key in KEYS or (not whole and any(known.endswith(f".{key}") for known in KEYS))


@pytest.mark.parametrize(("old", "message"), RENAMED.items(), ids=RENAMED.keys())
def test_a_renamed_key_leads_to_a_key_that_exists(old, message):
    new = message.replace(",", " ").replace(";", " ").split()[0]
    assert exists(new)
    assert not exists(old, whole=old in WHOLE)


@pytest.fixture
def table(monkeypatch):
    """Renames that no later one can contradict."""
    names = {
        "motor": "runtime",
        "motor.check": "runtime.gradient_checkpointing",
        "ranked.rate": "ranked.beta = 1 / rate; null ranks without a guide",
        "part": "checkpoints",
        "data.noise": "data.label_smoothing",
    }
    for old, new in names.items():
        monkeypatch.setitem(RENAMED, old, new)


@pytest.mark.parametrize(
    ("config", "override", "message"),
    [
        (GenerateConfig, "motor.dtype=bfloat16", "motor was renamed: write runtime"),
        (GenerateConfig, "motor=x", "motor was renamed: write runtime"),
        (
            GenerateConfig,
            "motor.check=true",
            "motor.check was renamed: write runtime.gradient_checkpointing",
        ),
        (
            GenerateConfig,
            "decoding.nabla.ranked.rate=2",
            "decoding.nabla.ranked.rate was renamed: "
            "write decoding.nabla.ranked.beta = 1 / rate; null ranks without a guide",
        ),
        (DualityConfig, "part.policy.path=x", "part was renamed: write checkpoints"),
        # `data` has no default.
        (TrainGuideConfig, "data.noise=0.1", "data.noise was renamed: write data.label_smoothing"),
    ],
)
def test_an_old_key_in_an_override_is_refused_with_the_new_one(table, config, override, message):
    with pytest.raises(ConfigError) as failure:
        load(config, [], [override])
    assert str(failure.value) == f"override '{override}': {message}"


def test_all_old_keys_of_a_file_are_named_at_once(table, tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(
        "motor: {dtype: float32, check: true}\ndecoding: {nabla: {ranked: {rate: 1}}}\n"
    )
    with pytest.raises(ConfigError) as failure:
        load(GenerateConfig, [file])
    lines = str(failure.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{file}: ") for line in lines)


def test_a_key_that_exists_today_is_not_refused(monkeypatch):
    monkeypatch.setitem(RENAMED, "seed", "run_dir")
    assert load(GenerateConfig, [], ["seed=3"]).seed == 3


def test_an_old_name_below_another_unknown_key_is_not_taken_for_a_rename(table):
    assert renamed({"unknown": {"motor": 1}}, GenerateConfig) == {}
