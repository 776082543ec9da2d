"""The arms of a comparison: a config of `nabla generate` each, or a run folder that is there.

Does not import ray.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import yaml

from pipeline.compare.config import CompareConfig, folder_name
from pipeline.config import with_settings
from pipeline.generate.config import GenerateConfig
from pipeline.store.checks.config_check import CONFIG
from pipeline.store.files import Folder
from pipeline.store.uris import below


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm and its run folder. `config` is None where the run was made elsewhere."""

    name: str
    run_dir: str
    config: GenerateConfig | None


def arms_of(config: CompareConfig) -> list[Arm]:
    """The arms in their order, then the run folders that join. Raises ConfigError naming the arm
    and the key that `nabla generate` would refuse."""
    base = _base(config)
    own = []
    for name, settings in config.arms.items():
        if settings is None:
            continue
        run_dir = below(config.run_dir, f"arms/{folder_name(name)}")
        changed = with_settings(base, {**settings, "run_dir": run_dir}, f"arms.{name}")
        own.append(Arm(name=name, run_dir=run_dir, config=changed))
    others = [Arm(name=n, run_dir=path, config=None) for n, path in config.runs.items()]
    return own + others


def stored_config(name: str, run_dir: str) -> GenerateConfig:
    """The config that a run was made with, as its folder keeps it: what was `auto` is decided.
    Raises ConfigError."""
    settings = yaml.safe_load(Folder(run_dir).read(CONFIG))
    return with_settings(GenerateConfig(), settings, f"{name}: {run_dir}/{CONFIG}")


def _base(config: CompareConfig) -> GenerateConfig:
    """The settings that the two commands share."""
    shared = {field.name for field in fields(GenerateConfig)} - {"run_dir"}
    return GenerateConfig(**{name: getattr(config, name) for name in shared})
