"""What a training must have before it starts. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nabla_core.guide_training.settings import Optimise
from pipeline.extras import require_for_lora
from pipeline.grading.graders import check_expected
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.dtype import resolve_dtype
from pipeline.run.verify_method import resolve, with_verify
from pipeline.store.checks.owner import Owner
from pipeline.train_guide.config import TrainGuideConfig, Validation
from pipeline.train_guide.models import model_paths

OWNER = Owner("train-guide")


def resolved(config: TrainGuideConfig) -> tuple[TrainGuideConfig, list[str]]:
    """The config with a method in place of `validation.verify.method: auto` and a type in place of
    `optimise.dtype: auto`, and what to tell the user of them. Raises PipelineError."""
    validation = config.validation
    verify, notes = resolve(
        validation.verify, config.run_dir, validation.prompts, key="validation.verify"
    )
    optimise = with_dtype(
        config.optimise,
        config.run_dir,
        model_paths(config).values(),
        gpu=config.workers.gpu,
        cluster=bool(config.workers.address),
    )
    return replace(config, validation=with_verify(validation, verify), optimise=optimise), notes


def with_dtype(
    optimise: Optimise,
    run_dir: str,
    paths: Iterable[str],
    *,
    gpu: bool,
    cluster: bool,
    key: str = "optimise",
) -> Optimise:
    """The settings with a type instead of `auto`: that of the run folder, else by the rule of
    `run.dtype`. Raises StoreError."""
    if optimise.dtype != "auto":
        return optimise
    device = "cuda" if gpu else "cpu"
    dtype, _ = resolve_dtype(
        run_dir, paths, device=device, gpus=float(gpu), cluster=cluster, key=f"{key}.dtype"
    )
    return replace(optimise, dtype=dtype)


def check_ready(optimise: Optimise, validation: Validation) -> None:
    """Raises ConfigError where a package is missing and InputError where the validation prompts
    cannot be read. Workers would notice only after they have loaded models."""
    require_for_lora(optimise.lora)
    for item in read_prompts(validation.prompts):
        check_expected(item.prompt, validation.verify)
