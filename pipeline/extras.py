"""Optional packages: a missing one is reported before a run starts."""

from __future__ import annotations

from importlib.util import find_spec

from nabla_core.guide_training.settings import Lora
from pipeline.errors import ConfigError


def require(package: str, extra: str, setting: str, instead: str | None = None) -> None:
    """Raises ConfigError where an optional package is not installed.

    `extra` is the extra of this project that installs it, `setting` what needs it, and
    `instead` a setting that does without it.
    """
    if find_spec(package) is None:
        raise ConfigError(
            f"{setting} needs {package}, which is not installed here: in the folder of the "
            f"project, run pip install -e '.[{extra}]'" + (f", or {instead}" if instead else "")
        )


def require_for_lora(lora: Lora) -> None:
    """Raises ConfigError where the settings ask for adapters and peft is not installed."""
    if lora.rank:
        setting = f"optimise.lora.rank={lora.rank}"
        require("peft", "train", setting, "optimise.lora.rank=0 for full weights")


def require_reporter(name: str) -> None:
    """Raises ConfigError where the package that `report_to` names is not installed."""
    packages = {"tensorboard": ("tensorboard", "tensorboardX")}.get(name, (name,))
    if not any(find_spec(package) for package in packages):
        raise ConfigError(
            f"report_to={name} needs {packages[0]}, which is not installed here: "
            f"pip install {packages[0]}, or leave it out of report_to"
        )
