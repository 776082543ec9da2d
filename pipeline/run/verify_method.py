"""`verify.method: auto` becomes the method of a run: once, and the run folder keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, get_args, get_type_hints

from pipeline.errors import ConfigError
from pipeline.grading.custom import check_function
from pipeline.grading.graders import Verify
from pipeline.grading.guess import Guess, guess_method
from pipeline.inputs.prompts import Prompts, read
from pipeline.run.stored_setting import stored_setting

C = TypeVar("C")


def resolve(
    verify: Verify, run_dir: str, *prompts: Prompts, key: str = "verify"
) -> tuple[Verify, list[str]]:
    """The settings with a method instead of `auto`, and a sentence for the user about a guess.

    The method is that of the run folder, where it has one at `key` of its config, so that a run is
    resumed with what it began with; else it is guessed from the answers of `prompts`, which are
    read to their end. Raises ConfigError where `verify.function` is none, InputError, StoreError.
    """
    if verify.function is not None:
        check_function(verify.function)
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
    method = stored_setting(run_dir, f"{key}.method")
    known = get_args(get_type_hints(Verify)["method"])
    return method if method in known and method != "auto" else None
