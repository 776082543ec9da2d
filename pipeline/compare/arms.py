"""The arms of a comparison: a config of `nabla generate` each, or a run folder that is there.

Does not import ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import yaml

from pipeline.compare.config import CompareConfig, folder_name
from pipeline.config import with_settings
from pipeline.errors import UnknownKeyError
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
        try:
            changed = with_settings(base, {**settings, "run_dir": run_dir}, f"arms.{name}")
        except UnknownKeyError as error:
            raise UnknownKeyError(f"{error}{_dotted(name, error.keys)}", error.keys) from error
        own.append(Arm(name=name, run_dir=run_dir, config=changed))
    others = [Arm(name=n, run_dir=path, config=None) for n, path in config.runs.items()]
    return own + others


def stored_config(name: str, run_dir: str) -> GenerateConfig:
    """The config that a run was made with, as its folder keeps it: what was `auto` is decided.
    Raises ConfigError."""
    settings = yaml.safe_load(Folder(run_dir).read(CONFIG))
    return with_settings(GenerateConfig(), settings, f"{name}: {run_dir}/{CONFIG}")


def _dotted(name: str, unknown: Sequence[str]) -> str:
    """What to do where the keys that are unknown may be the rest of an arm's name."""
    rest = next(
        (key.split(".")[0] for key in unknown if not key.split(".")[0].isidentifier()), None
    )
    if rest is None:
        return ""
    return (
        f"\narms.{name}: an arm whose name has a dot is written in double quotes: "
        f'arms."{name}.{rest}".seed=1, '
        "the whole in single quotes for a shell; in a file as any other key"
    )


def _base(config: CompareConfig) -> GenerateConfig:
    """The settings that the two commands share."""
    shared = {field.name for field in fields(GenerateConfig)} - {"run_dir"}
    return GenerateConfig(**{name: getattr(config, name) for name in shared})
