"""Settings of the jobs: YAML files and `key=value` overrides become frozen dataclasses.

The only file that imports omegaconf. Nothing here imports torch or ray, so a wrong key is
reported in a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nabla_core.config import Decoding
from nabla_core.model_config import LM, Engine, Reward
from pipeline.cluster import Cluster
from pipeline.errors import ConfigError
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.store.settings import Store

C = TypeVar("C")


@dataclass(frozen=True)
class RowsConfig:
    """What every job is told that makes rows of prompts on Ray.

    `run_dir` is a local folder or any URI that pyarrow or fsspec opens. A row is lost to
    the dead letters after its prompt alone killed `max_attempts` worker processes; the run
    ends early once more than `max_dead_fraction` of at least 20 finished rows are dead.
    `allow_input_change` redoes rows whose prompt was edited since they were committed.
    """

    run_dir: str = "runs/rows"
    seed: int = 0
    max_attempts: int = 3
    max_dead_fraction: float = 0.1
    allow_input_change: bool = False
    prompts: Prompts = field(default_factory=Prompts)
    lm: LM = field(default_factory=LM)
    reward: Reward = field(default_factory=Reward)
    engine: Engine = field(default_factory=Engine)
    verify: Verify = field(default_factory=Verify)
    cluster: Cluster = field(default_factory=Cluster)
    store: Store = field(default_factory=Store)

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if not 0 <= self.max_dead_fraction <= 1:
            raise ValueError(f"max_dead_fraction must be in [0, 1], got {self.max_dead_fraction}")


@dataclass(frozen=True)
class GenerateConfig(RowsConfig):
    """One run of `jobs.generate`."""

    run_dir: str = "runs/generate"
    max_dead_fraction: float = 0.5
    samples_per_prompt: int = 1
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples_per_prompt < 1:
            raise ValueError(
                f"samples_per_prompt must be at least 1, got {self.samples_per_prompt}"
            )


def load(cls: type[C], files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> C:
    """Defaults of `cls`, then the YAML files in order, then `key=value` overrides.

    Raises ConfigError naming the key, where it was set and the nearest valid key.
    """
    merged = OmegaConf.structured(cls)
    for file in files:
        merged = _merge(merged, _read(file), str(file))
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r} is not of the form key=value")
        try:
            given = OmegaConf.from_dotlist([override])
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            raise ConfigError(f"override {override!r}: {error}") from error
        merged = _merge(merged, given, f"override {override!r}")
    try:
        config: Any = OmegaConf.to_object(merged)
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from error
    if not isinstance(config, cls):
        raise TypeError(f"{cls.__name__} became a {type(config).__name__}")
    return config


def to_yaml(config: Any) -> str:
    """The resolved config as YAML; `load` reads it back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def overrides_yaml(overrides: Mapping[str, Any]) -> str:
    """Dotted keys and values as the YAML of a config file."""
    made = OmegaConf.create()
    for key, value in overrides.items():
        OmegaConf.update(made, key, value)
    return OmegaConf.to_yaml(made)


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested plain dicts."""
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _read(file: str | Path) -> Any:
    try:
        text = Path(file).read_text(encoding="utf-8")
        given = OmegaConf.create(text)
    except OSError as error:
        raise ConfigError(f"cannot read config {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: invalid UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file}: {_first_line(error)}") from error
    if not OmegaConf.is_dict(given):
        raise ConfigError(f"{file}: expected a mapping of keys to values")
    return given


def _merge(merged: Any, given: Any, source: str) -> Any:
    try:
        return OmegaConf.merge(merged, given)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = _first_line(error)
        named = f"{source}: {reason}" if key is None else f"{source}: {key}: {reason}"
        raise ConfigError(named) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
