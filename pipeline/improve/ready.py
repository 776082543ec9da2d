"""What rounds must have before the first one starts. Imports neither torch nor ray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nabla_core.models.location import check_locations
from pipeline.errors import ConfigError
from pipeline.extras import require, require_for_lora
from pipeline.grading.graders import check_expected
from pipeline.grading.steps import check_steps
from pipeline.improve import steps
from pipeline.improve.config import ImproveConfig
from pipeline.improve.steps import Models
from pipeline.inputs.prompts import Prompts, content_key
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.dtype import resolve_runtime
from pipeline.run.models import model_paths as run_paths
from pipeline.run.verify_method import resolve, with_verify
from pipeline.store.checks.owner import Owner
from pipeline.train_guide.models import model_paths
from pipeline.train_guide.ready import check_ready, with_dtype

OWNER = Owner("improve")


def resolved(config: ImproveConfig) -> tuple[ImproveConfig, list[str]]:
    """The config with methods in place of `verify.method: auto`, and what to tell the user of
    them. Raises PipelineError."""
    validation = config.training.validation
    verify, notes = resolve(
        config.verify, config.run_dir, _prompts_of_all_rounds(config), config.eval_prompts
    )
    searched, more = resolve(
        validation.verify,
        config.run_dir,
        validation.prompts,
        key="training.validation.verify",
    )
    where: dict[str, Any] = {
        "gpus": config.cluster.gpus_per_actor,
        "cluster": bool(config.cluster.ray_address),
    }
    paths = run_paths(config.lm, config.reward).values()
    runtime, said = resolve_runtime(config.runtime, config.run_dir, paths, **where)
    optimise = with_dtype(
        config.training.optimise,
        config.run_dir,
        paths,
        gpu=config.training.workers.gpu,
        cluster=bool(config.training.workers.address),
        key="training.optimise",
    )
    training = replace(
        config.training, validation=with_verify(validation, searched), optimise=optimise
    )
    config = replace(with_verify(config, verify), training=training, runtime=runtime)
    return config, [*notes, *more, *said]


def _prompts_of_all_rounds(config: ImproveConfig) -> Prompts:
    return replace(config.prompts, limit=config.rounds * (config.prompts.limit or 0))


def check(config: ImproveConfig) -> None:
    """Raises before the first round what would otherwise fail in its last step, hours later."""
    models = Models(lm=config.lm, reward=config.reward)
    runs = [config.run_dir]  # of data that is still to be made
    paths = run_paths(config.lm, config.reward)
    try:
        # The settings of later steps check their values when they are built.
        steps.search(config, 1, models)
        if config.takes("samples"):
            steps.samples(config, 1, models)
        if config.takes("distill"):
            steps.distill(config, 1, models, runs)
        if config.takes("judge"):
            steps.train_judge(config, 1, models, runs)
            steps.validate_judge(config, 1, models)
        if config.takes("counterfactuals"):
            steps.explore(config, 1, models)
        if config.takes("guide"):
            training = steps.train(config, 1, models, counterfactuals=runs, traces=())
            of_guide = model_paths(training)
            paths |= {key.replace("start.", "training.start."): of_guide[key] for key in of_guide}
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not config.cluster.ray_address:
        check_locations(paths)
    if config.takes("distill"):
        _check_distillation(config)
    if config.takes("judge"):
        _check_judging(config)
    # Its prompts also decide whether what a round has trained is used.
    check_ready(config.training.optimise, config.training.validation)
    _check_prompts(config)


def _check_distillation(config: ImproveConfig) -> None:
    section, validation = config.distill, config.training.validation
    require("trl", "train", "steps: distill")
    require_for_lora(section.optimise.lora)
    if section.answer_filters and config.verify.method == "none":
        raise ConfigError(
            f"{', '.join(section.answer_filters)}: no trace is verified with verify.method=none"
        )
    if section.metric == "accuracy" and validation.verify.method == "none":
        raise ConfigError(
            "distill.metric=accuracy: no answer to training.validation.prompts is verified with "
            "training.validation.verify.method=none; set distill.metric=reward"
        )


def _check_judging(config: ImproveConfig) -> None:
    require("trl", "train", "steps: judge")
    require_for_lora(config.judge.optimise.lora)
    if config.verify.method == "none":
        raise ConfigError("steps: judge: no answer is right or wrong with verify.method=none")
    if config.judge.goal.answers == "steps":
        check_steps(config.training.validation.verify, config.judge.goal.step_function)


def _check_prompts(config: ImproveConfig) -> None:
    """Raises ConfigError where there are too few prompts for all rounds, or where a prompt has
    more than one use: figures on prompts that were trained on would be too good. Raises InputError
    where an expected answer cannot be graded against."""
    needed = config.rounds * (config.prompts.limit or 0)
    taken = list(read_prompts(_prompts_of_all_rounds(config)))
    # Each round would notice it at its start, after hours.
    for item in (*taken, *read_prompts(config.eval_prompts)):
        check_expected(item.prompt, config.verify)
    if len(taken) < needed:
        raise ConfigError(
            f"prompts: {config.rounds} rounds of {config.prompts.limit} need {needed}, and "
            f"{config.prompts.path} has {len(taken)} after the first {config.prompts.skip}"
        )
    # By content: the same prompt may have another id in another file.
    used = {content_key(item.prompt): f"prompts ({item.prompt.id})" for item in taken}
    for name, prompts in (
        ("eval_prompts", config.eval_prompts),
        ("training.validation.prompts", config.training.validation.prompts),
    ):
        more = {content_key(i.prompt): f"{name} ({i.prompt.id})" for i in read_prompts(prompts)}
        if shared := used.keys() & more.keys():
            example = min(shared)
            raise ConfigError(
                f"{name}: {len(shared)} of its prompts are used elsewhere too, {more[example]} as "
                f"{used[example]}: prompts to train on, to choose checkpoints by and to evaluate "
                "on must be different ones"
            )
        used |= more
