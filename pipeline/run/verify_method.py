"""`verify.method: auto` becomes the method of a run: once, and the run folder keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from pipeline.errors import ConfigError
from pipeline.grading.graders import Verify
from pipeline.grading.guess import Guess, guess_method
from pipeline.inputs.prompts import Prompts, read
from pipeline.store.checks.config_check import CONFIG
from pipeline.store.run_folder import open_folder, translate_os_errors

C = TypeVar("C")


def resolve(
    verify: Verify, run_dir: str, *prompts: Prompts, key: str = "verify"
) -> tuple[Verify, list[str]]:
    """The settings with a method instead of `auto`, and a sentence for the user about a guess.

    The method is that of the run folder, where it has one at `key` of its config, so that a run is
    resumed with what it began with; else it is guessed from the answers of `prompts`, which are
    read to their end. Raises InputError, StoreError.
    """
    if verify.method != "auto":
        return verify, []
    method = _stored(run_dir, key)
    if method is not None:
        return replace(verify, method=method), []
    if all(one.path == "embedded" for one in prompts):
        return replace(verify, method="embedded"), []
    guess = guess_method(item.prompt.answer for one in prompts for item in read(one))
    return replace(verify, method=guess.method), [_sentence(key, guess)]


def with_verify(config: C, verify: Verify) -> C:
    """A config with other settings of `verify`. Raises ConfigError where it needs answers and they
    are not graded."""
    try:
        return replace(config, verify=verify)  # type: ignore[type-var]
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _sentence(key: str, guess: Guess) -> str:
    return f"{key}.method={guess.method}: {guess.reason}"


def _stored(run_dir: str, key: str) -> Any:
    """The method in the config of a run folder; None where it has none, or none of today's."""
    folder = open_folder(run_dir)
    with translate_os_errors(run_dir):
        if not folder.exists(CONFIG):
            return None
        text = folder.read(CONFIG)
    try:
        node: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None  # `config_check` says what a damaged config means
    for part in (*key.split("."), "method"):
        node = node.get(part) if isinstance(node, Mapping) else None
    known = get_args(get_type_hints(Verify)["method"])
    return node if node in known and node != "auto" else None
