"""The reference of all settings, configs/README.md, made from the config classes.

    python -m pipeline.config_reference configs/README.md

The docstring of a config class documents each of its keys in a section `Attributes`: one entry
`key: meaning` or `key (unit): meaning` a key, continued on lines that are indented further.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from nabla_core.config_metadata import NOT_SHAPING
from pipeline.compare.config import CompareConfig
from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.distill.config import DistillConfig
from pipeline.duality.checkpoints.config import CheckpointsConfig
from pipeline.duality.config import DualityConfig
from pipeline.estimate.config import EstimateConfig
from pipeline.export.config import ExportConfig
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.report.config import ReportConfig
from pipeline.store.checks.config_check import not_shaping
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.tune.config import TuneConfig

COMMANDS: dict[str, type] = {
    "generate": GenerateConfig,
    "estimate": EstimateConfig,
    "report": ReportConfig,
    "export": ExportConfig,
    "counterfactuals": CounterfactualsConfig,
    "tune": TuneConfig,
    "train_guide": TrainGuideConfig,
    "train_judge": TrainJudgeConfig,
    "improve": ImproveConfig,
    "distill": DistillConfig,
    "compare": CompareConfig,
    "duality": DualityConfig,
}

HEAD = """\
# Settings

<!-- Made by `make docs` from the config classes; do not edit. -->

Every command takes its settings from YAML files and from `key=value` arguments:

    nabla generate --config configs/embedded.yaml --config mine.yaml seed=3 runtime.max_batch=64

A later file wins over an earlier one and an argument over all files, key by key. A key that no
file and no argument sets has the default that is given here. `--print-config` prints all settings
as the command would use them.

Below, first the keys of each command, then the sections that commands share. A key of a section
is written with a dot: `decoding.nabla.max_rollouts`. `null` is no value.

**Resuming.** A run folder keeps its settings in `config.yaml`. The same command with the same
`run_dir` resumes the run, and refuses settings that would make other rows than those that are
committed. Settings that change no row (where the run is made, how large batches are) may differ:
the column *free* marks them with "yes", and each command lists them. Where the two differ, the
command's list holds: a section may be free as a whole.
"""

_ENTRY = re.compile(r"    (\w+)(?: \(([^)]+)\))?: (.*)")


@dataclass(frozen=True)
class Meaning:
    """The entry of a key in a docstring; `unit` is empty where the value has none."""

    unit: str
    text: str


def fitting_commands(file: str | Path) -> dict[str, type]:
    """The commands, by verb, that know every section of a config file; none where the file is
    unreadable."""
    try:
        settings = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    if not isinstance(settings, Mapping):
        return {}
    return {
        name.replace("_", "-"): config
        for name, config in COMMANDS.items()
        if settings.keys() <= {field.name for field in fields(config)}
    }


def summary(config: type) -> str:
    """The docstring of a config class without its section `Attributes`."""
    return inspect.cleandoc(config.__doc__ or "").partition("\nAttributes:\n")[0].strip()


def meanings(config: type) -> dict[str, Meaning]:
    """The meanings of a config class's keys, those of its base classes included."""
    documented: dict[str, Meaning] = {}
    for base in reversed(config.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")[2]
        key = ""
        for line in section.splitlines():
            entry = _ENTRY.fullmatch(line)
            if entry:
                key = entry[1]
                documented[key] = Meaning(entry[2] or "", entry[3].strip())
            elif line.startswith("        ") and key:
                documented[key] = Meaning(
                    documented[key].unit, f"{documented[key].text} {line.strip()}"
                )
            elif line.strip():
                break
    return documented


def sections(config: type) -> Iterator[type]:
    """The classes of all sections of a config, those inside sections too, each after the one
    that holds it."""
    hints = get_type_hints(config)
    for field in fields(config):
        if is_dataclass(hints[field.name]):
            yield hints[field.name]
            yield from sections(hints[field.name])


def reference() -> str:
    """The text of configs/README.md."""
    configs = {f"nabla {_verb(name)}": config for name, config in COMMANDS.items()}
    section_classes: dict[str, type] = {}
    for config in configs.values():
        section_classes |= {section.__name__: section for section in sections(config)}
    by_name = [section_classes[name] for name in sorted(section_classes, key=str.lower)]
    holders = {**configs, **{section.__name__: section for section in by_name}}
    parts = [HEAD, "## Commands\n"]
    parts += [_command(title, config) for title, config in configs.items()]
    parts += ["## Sections\n", *(_section(section, holders) for section in by_name)]
    return "\n".join(parts)


def _verb(command: str) -> str:
    return command.replace("_", "-")


def _command(title: str, config: type) -> str:
    lines = [f"### {title}\n", f"{summary(config)}\n", *table(config)]
    return "\n".join([*lines, "", _resume(config), ""])


def _section(section: type, holders: Mapping[str, type]) -> str:
    places: dict[str, list[str]] = {}
    for title, holder in holders.items():
        hints = get_type_hints(holder)
        keys = [f"`{field.name}`" for field in fields(holder) if hints[field.name] is section]
        if keys:
            anchor = title.lower().replace(" ", "-")
            places.setdefault(", ".join(keys), []).append(f"[{title}](#{anchor})")
    holding_keys = "; ".join(f"{keys} of {', '.join(titles)}" for keys, titles in places.items())
    lines = [f"### {section.__name__}\n", f"{summary(section)}\n", f"Keys: {holding_keys}.\n"]
    return "\n".join([*lines, *table(section), ""])


def table(config: type) -> Iterator[str]:
    """A Markdown table of a config class, a line for each key."""
    hints, documented = get_type_hints(config), meanings(config)
    yield "| key | type | default | unit | meaning | free |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for field in fields(config):
        meaning = documented.get(field.name, Meaning("", ""))
        free = "yes" if field.metadata == NOT_SHAPING else ""
        kind, default = _type(hints[field.name]), _default(field)
        cells = (f"`{field.name}`", kind, default, meaning.unit, meaning.text, free)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _resume(config: type) -> str:
    if config is DualityConfig:
        keys = [f"checkpoints.{key}" for key in not_shaping(CheckpointsConfig)]
        start = (
            "Finished pieces of work are kept in the run folder, and a piece whose settings have "
            "changed is made again. Of the rows of part checkpoints, a resumed run may change: "
        )
    else:
        keys = [key for key in not_shaping(config) if key != "run_dir"]
        start = "A resumed run may change: "
    return start + ", ".join(f"`{key}`" for key in keys) + "."


def _differences(section: Any, default: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a section that differ from the section's own defaults."""
    for field in fields(section):
        value, usual = getattr(section, field.name), getattr(default, field.name)
        if is_dataclass(value):
            yield from _differences(value, usual, f"{prefix}{field.name}.")
        elif value != usual:
            yield f"{prefix}{field.name}", value


def _value(field: Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is MISSING else factory()


def _default(field: Field[Any]) -> str:
    """A key's default; of a section, where it differs from the section's own defaults."""
    value = _value(field)
    if value is MISSING:
        return "required"
    if not is_dataclass(value):
        return f"`{_yaml(value)}`"
    section: Any = type(value)
    changed = _differences(value, section())
    return ", ".join(f"`{key}: {_yaml(different)}`" for key, different in changed)


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("\n...").strip()


def _type(hint: Any) -> str:
    """A type as a user of YAML would call it; for a section a link to its table."""
    if is_dataclass(hint):
        name = hint.__name__ if isinstance(hint, type) else type(hint).__name__
        return f"[{name}](#{name.lower()})"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        others = [_type(argument) for argument in arguments if argument is not NoneType]
        return " or ".join([*others, "null"])
    if origin is tuple:
        return f"list of {_type(arguments[0])}s"
    if origin is dict:
        return "settings by name" if arguments[1] is Any else f"{_type(arguments[1])} by name"
    return {"str": "text", "bool": "true/false", "int": "integer", "float": "number"}[hint.__name__]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
