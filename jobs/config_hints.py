"""What a command says where it is not told enough, or something else than it can use.

Imports the configs of all commands, and so is imported itself where there is something to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config_keys import tree, with_end
from pipeline.config_reference import COMMANDS, fitting_commands
from pipeline.errors import ConfigError

# The embedded task stands behind all of these keys where nobody sets them.
MODELS = ("lm.path", "reward.judge")
PROMPTS = {
    "generate": ("prompts.path",),
    "counterfactuals": ("prompts.path",),
    "tune": ("prompts.path",),
    "train-guide": ("validation.prompts.path",),
    "train-judge": ("validation.prompts.path",),
    "improve": ("prompts.path", "eval_prompts.path", "training.validation.prompts.path"),
    "distill": ("validation.prompts.path",),
}
# A config that runs as it stands, and one to begin with for models and prompts of one's own.
EMBEDDED = {
    "generate": "configs/embedded.yaml",
    "counterfactuals": "configs/counterfactuals_embedded.yaml",
    "tune": "configs/tune_embedded.yaml",
    "train-guide": "configs/train_head_embedded.yaml",
    "train-judge": "configs/train_judge_embedded.yaml",
    "improve": "configs/improve_embedded.yaml",
    "distill": "configs/distill_embedded.yaml",
}
OWN = {
    "generate": "configs/own/generate.yaml",
    "counterfactuals": "configs/own/counterfactuals.yaml",
    "train-guide": "configs/own/train_guide.yaml",
}
_OPENING = re.compile(r"# nabla ([\w-]+) ")


def models_of(verb: str) -> tuple[str, ...]:
    """The keys of the models that a command cannot do without."""
    return ("student.path",) if verb == "distill" else MODELS


def check_enough(config: Any, given: Collection[str]) -> None:
    """Raises ConfigError where a config leaves models or prompts to their defaults, which are those
    of the embedded task: a toy would answer a user's prompts."""
    verb = _verb(type(config))
    if verb not in PROMPTS:
        return
    # Named as such, the embedded LM may take all other defaults; a scripted one has no judge.
    models = models_of(verb)
    lm = config.student if verb == "distill" else config.lm
    if models[0] in given and lm.path.partition("?")[0] in ("embedded", "scripted"):
        return
    missing = [key for key in (*models, *PROMPTS[verb]) if key not in given]
    if missing:
        raise ConfigError(
            f"not given: {', '.join(missing)}; the default is the embedded task\n" + _examples(verb)
        )


def check_something(config: type) -> None:
    """Raises ConfigError, saying what to give, where a command of models is given nothing."""
    verb = _verb(config)
    if verb in PROMPTS:
        raise ConfigError(f"nabla {verb} needs a config, or models and prompts\n" + _examples(verb))


def of_another_command(config: type, files: Sequence[str]) -> list[str]:
    """A sentence for each file that fits other commands alone, naming them."""
    sentences = []
    for file in files:
        fitting = fitting_commands(file)
        if not fitting or config in fitting.values():
            continue
        # Many configs fit several commands; their first line says which one they were made for.
        opening = _OPENING.match(Path(file).read_text(encoding="utf-8"))
        verbs = [opening[1]] if opening and opening[1] in fitting else list(fitting)
        commands = " or ".join(f"`nabla {verb} --config {file}`" for verb in verbs)
        sentences.append(f"{file} is a config of {' or '.join(verbs)}: run {commands}")
    return sentences


def key_of_others(config: type, keys: Sequence[str]) -> list[str]:
    """A sentence for each key that other commands have, naming them."""
    sentences = []
    for key in keys:
        verbs = [
            f"`nabla {name.replace('_', '-')}`"
            for name, other in COMMANDS.items()
            if other is not config and _has(other, key)
        ]
        if verbs and not with_end(key, config):
            sentences.append(f"{key} is a key of {' and '.join(verbs)}")
    return sentences


def check_words(config: type, files: Sequence[str], overrides: Sequence[str]) -> None:
    """Raises ConfigError at a word that is neither a config file nor key=value."""
    for file in files:
        path = Path(file)
        named_as_file = path.suffix in (".yaml", ".yml", ".json") or "/" in file
        if not named_as_file and not path.exists():
            raise ConfigError(
                f"{file!r} behind --config is no file{_hint(config, file) or ' and no key=value'}"
            )
    for word in overrides:
        if "=" in word.strip("="):
            continue
        if Path(word).suffix in (".yaml", ".yml"):
            raise ConfigError(f"{word!r}: a config file stands behind --config")
        raise ConfigError(f"{word!r} is not of the form key=value{_hint(config, word)}")


def _hint(config: type, word: str) -> str:
    key = word.partition("=")[0]
    if _has(config, key):
        return f"; it is a key: write {key}=VALUE, without spaces"
    return ""


def _has(config: type, key: str) -> bool:
    node: Any = tree(config)
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _verb(config: type) -> str:
    names = [name for name, known in COMMANDS.items() if known is config]
    return names[0].replace("_", "-") if names else ""


def _examples(verb: str) -> str:
    keys = " ".join(
        f"{key}={'FILE' if key.endswith('prompts.path') else 'DIR'}"
        for key in (*models_of(verb), *PROMPTS[verb])
    )
    return (
        "  on the embedded models:\n"
        f"    nabla {verb} --config {EMBEDDED[verb]}\n"
        "  on your own:\n"
        f"    nabla {verb} --config {OWN.get(verb, 'FILE')} {keys}"
    )
