"""The models of a process: the engines that settings ask for, and prompts as the LM reads them.

torch and transformers take seconds to import. They are imported inside the functions, because the
driver imports this module and runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping

from nabla_core.embedded.weights import model_location
from nabla_core.engines.base import Engines
from nabla_core.errors import ModelError
from nabla_core.model_config import LM, TEMPLATE_DATE, Reward, Runtime
from nabla_core.models.identity import identify_unloaded
from nabla_core.text.templates import render_for_lm
from nabla_core.types import Identity, Prompt
from pipeline.run.dtype import require_same_dtype


def open_engines(lm: LM, reward: Reward, runtime: Runtime) -> Engines:
    """Load the models and build the engines of this process. Raises ModelError.

    The LM path `scripted?...` loads no model: see `nabla_core.engines.scripted`.
    """
    if is_scripted(lm):
        from nabla_core.engines import scripted  # noqa: PLC0415 - see above

        return scripted.from_path(lm.path, max_batch=runtime.max_batch)
    from transformers.utils import logging  # noqa: PLC0415 - see above

    from nabla_core.engines.loading import device_of, load_engines  # noqa: PLC0415 - see above

    require_same_dtype(runtime, str(device_of(runtime.device)), model_paths(lm, reward).values())
    logging.disable_progress_bar()
    return load_engines(lm, reward, runtime)


def model_paths(lm: LM, reward: Reward) -> dict[str, str]:
    """Where the models are, by the key of the config that says so."""
    if is_scripted(lm):
        return {}
    paths = {"lm.path": model_location(lm.path, "lm")}
    if reward.judge is not None:
        paths["reward.judge"] = model_location(reward.judge, "judge")
    if reward.guide is not None:
        paths["reward.guide"] = model_location(reward.guide, "guide")
    return paths


def identities(lm: LM, reward: Reward) -> dict[str, Identity]:
    """The models by role, without loading them; only those whose files this process can see.
    Raises ModelError."""
    if is_scripted(lm):
        return {}
    found = {"lm": (model_location(lm.path, "lm"), lm.revision)}
    if reward.judge is not None:
        # The judge is its own guide where no other is named.
        judge = model_location(reward.judge, "judge"), reward.judge_revision
        found |= {"judge": judge, "guide": judge}
    if reward.guide is not None:
        found["guide"] = model_location(reward.guide, "guide"), reward.guide_revision
    return visible(found)


def visible(models: Mapping[str, tuple[str, str | None]]) -> dict[str, Identity]:
    """The identities of models, given by role as path and revision; only of those whose files
    this process can see. Raises ModelError."""
    found = {role: identify_unloaded(*model) for role, model in models.items()}
    return {role: identity for role, identity in found.items() if identity is not None}


def render(prompt: Prompt, lm: LM, template_date: str = TEMPLATE_DATE) -> str:
    """The prompt as the LM reads it. Loads the tokenizer alone. Raises ModelError."""
    if is_scripted(lm):
        return prompt.text
    from nabla_core.models.pretrained import load_tokenizer  # noqa: PLC0415 - see above

    tokenizer = load_tokenizer(model_location(lm.path, "lm"), lm.revision)
    try:
        return render_for_lm(prompt, tokenizer, template_date)[0]
    except Exception as error:  # a template is a program: some refuse a system prompt
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"{lm.path} cannot render prompt {prompt.id}: {reason}") from error


def is_scripted(lm: LM) -> bool:
    """Whether an LM is played by a script and no model is loaded."""
    return lm.path.partition("?")[0] == "scripted"
