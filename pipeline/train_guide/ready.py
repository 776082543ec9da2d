"""What a training must have before it starts. Imports neither torch nor ray."""

from __future__ import annotations

from dataclasses import replace

from nabla_core.guide_training.settings import Optimise
from pipeline.extras import require_for_lora
from pipeline.grading.graders import check_expected
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.verify_method import resolve, with_verify
from pipeline.store.checks.owner import Owner
from pipeline.train_guide.config import TrainGuideConfig, Validation

OWNER = Owner("train-guide")


def resolved(config: TrainGuideConfig) -> tuple[TrainGuideConfig, list[str]]:
    """The config with a method in place of `validation.verify.method: auto`, and what to tell the
    user of it. Raises PipelineError."""
    validation = config.validation
    verify, notes = resolve(
        validation.verify, config.run_dir, validation.prompts, key="validation.verify"
    )
    return replace(config, validation=with_verify(validation, verify)), notes


def check_ready(optimise: Optimise, validation: Validation) -> None:
    """Raises ConfigError where a package is missing and InputError where the validation prompts
    cannot be read. Workers would notice only after they have loaded models."""
    require_for_lora(optimise.lora)
    for item in read_prompts(validation.prompts):
        check_expected(item.prompt, validation.verify)
