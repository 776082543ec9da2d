"""What a training must have before it starts. Imports neither torch nor ray."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import InputError
from pipeline.export.sources import open_sources
from pipeline.extras import require, require_for_lora, require_reporter
from pipeline.grading.graders import check_expected
from pipeline.grading.steps import check_steps
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.verify_method import resolve, with_verify
from pipeline.store.checks.owner import Owner
from pipeline.train_judge.config import TrainJudgeConfig

OWNER = Owner("train-judge")


def resolved(config: TrainJudgeConfig) -> tuple[TrainJudgeConfig, list[str]]:
    """The config with a method in place of `validation.verify.method: auto`, and what to tell the
    user of it. Raises PipelineError."""
    validation = config.validation
    verify, notes = resolve(
        validation.verify, config.run_dir, validation.prompts, key="validation.verify"
    )
    return replace(config, validation=with_verify(validation, verify)), notes


def check_ready(config: TrainJudgeConfig) -> None:
    """Raises ConfigError where a package is missing or steps cannot be told, and InputError where
    run folders or validation prompts cannot be read, or no prompt has an answer. Workers would
    notice only after they have started."""
    require("trl", "train", "nabla train-judge")
    require_for_lora(config.optimise.lora)
    for name in config.report_to:
        require_reporter(name)
    if config.goal.answers == "steps":
        check_steps(config.validation.verify, config.goal.step_function)
    allow_partial = config.data.allow_partial
    open_sources((*config.data.runs, *config.validation.runs), allow_partial=allow_partial)
    # A function of the user's own may grade prompts without an expected answer.
    custom = config.validation.verify.method == "custom"
    answers = 0
    for item in read_prompts(config.validation.prompts):
        check_expected(item.prompt, config.validation.verify)
        answers += item.prompt.answer is not None or custom
    if not answers:
        raise InputError(
            f"validation.prompts: no prompt of {config.validation.prompts.path} has an expected "
            "answer, by which a judge could be measured"
        )
