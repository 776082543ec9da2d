"""Greedy answers of a saved model to validation prompts, with our own engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nabla_core.engines.base import Engines
from nabla_core.engines.loading import build_engines, reader_for
from nabla_core.errors import PromptError
from nabla_core.methods.baselines import greedy
from nabla_core.model_config import TEMPLATE_DATE, Runtime
from nabla_core.models.loading import LanguageModel, load_language_model, load_reward_model
from nabla_core.models.pretrained import own_dtype
from nabla_core.scheduler import drive
from nabla_core.types import Trace
from pipeline.distill.config import Selection
from pipeline.errors import RunError
from pipeline.grading.graders import grader
from pipeline.inputs.prompts import read as read_prompts

# The judge takes no gradient here, so it need not know all of the LM's tokens.
MIN_COVERAGE = 0.5


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Means over the prompts: `accuracy` (None where no prompt has an answer), the judge's `reward`
    (None without a judge), the share of responses that end with a stop token, and tokens a
    response. `flops`: of all answers. `failed` prompts could not be answered; they count as wrong
    and as not stopped."""

    accuracy: float | None
    reward: float | None
    stopped: float
    tokens: float
    flops: float
    failed: int


def measure(
    path: str,
    config: Selection,
    judge: tuple[str, str | None] | None,
    device: torch.device,
    template_date: str = TEMPLATE_DATE,
) -> Greedy:
    """Load the model in a folder, in the type of its weights, and let it answer all prompts.
    `template_date` (YYYY-MM-DD) is the date that chat templates are told.

    Raises RunError where it can answer none, InputError, ModelError.
    """
    dtype = own_dtype(path, None)
    lm = load_language_model(path, revision=None, device=device, dtype=dtype)
    prompts = [item.prompt for item in read_prompts(config.prompts)]
    grade = grader(config.verify)
    by_id = {prompt.id: prompt for prompt in prompts}
    failures: list[str] = []

    def failed(number: int, error: Exception) -> None:
        if not isinstance(error, PromptError):
            raise error
        failures.append(f"prompt {prompts[number].id}: {error}")

    traces: list[Trace] = list(
        drive(
            (
                greedy(prompt, max_tokens=config.max_tokens, judged=judge is not None)
                for prompt in prompts
            ),
            _engines(lm, config, judge, template_date),
            in_flight=2 * config.max_batch,
            failed=failed,
        )
    )
    if not traces:
        raise RunError(f"none of {len(prompts)} validation prompts can be answered; {failures[0]}")
    verdicts = [grade(by_id[t.prompt_id], t.text).correct for t in traces]
    right = [float(correct) for correct in verdicts if correct is not None]
    rewards = [t.reward for t in traces if t.reward is not None]
    return Greedy(
        accuracy=sum(right) / (len(right) + len(failures)) if right else None,
        reward=_mean(rewards) if rewards else None,
        stopped=len([t for t in traces if t.finish_reason == "stop"]) / len(prompts),
        tokens=_mean([len(t.tokens) for t in traces]),
        flops=sum(t.cost.flops for t in traces),
        failed=len(failures),
    )


def _engines(
    lm: LanguageModel,
    config: Selection,
    judge: tuple[str, str | None] | None,
    template_date: str,
) -> Engines:
    rows, tokens = config.max_batch, config.max_batch_tokens
    runtime = Runtime(max_batch=rows, max_batch_tokens=tokens, template_date=template_date)
    if judge is None:
        return build_engines(lm, None, None, runtime)
    path, revision = judge
    dtype = own_dtype(path, revision)
    model = load_reward_model(path, revision=revision, device=lm.device, dtype=dtype)
    reader = reader_for(model, lm, MIN_COVERAGE)
    return build_engines(lm, reader, reader, runtime)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
