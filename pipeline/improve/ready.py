"""What rounds must have before the first one starts. Imports neither torch nor ray."""

from __future__ import annotations

from dataclasses import replace

from nabla_core.models.location import check_locations
from pipeline.errors import ConfigError
from pipeline.grading.graders import check_expected
from pipeline.improve import steps
from pipeline.improve.config import ImproveConfig
from pipeline.inputs.prompts import Prompts, content_key
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.verify_method import resolve, with_verify
from pipeline.store.checks.owner import Owner
from pipeline.train_guide.models import model_paths
from pipeline.train_guide.ready import check_ready

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
    training = replace(config.training, validation=with_verify(validation, searched))
    return replace(with_verify(config, verify), training=training), notes + more


def _prompts_of_all_rounds(config: ImproveConfig) -> Prompts:
    return replace(config.prompts, limit=config.rounds * (config.prompts.limit or 0))


def check(config: ImproveConfig) -> None:
    """Raises before the first round what would otherwise fail in its last step, hours later."""
    try:
        # The settings of later steps check their values when they are built.
        steps.explore(config, 1, None)
        training = steps.train(config, 1, None)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not config.cluster.ray_address:
        paths = model_paths(training)
        check_locations({key.replace("start.", "training.start."): paths[key] for key in paths})
    check_ready(config.training.optimise, config.training.validation)
    _check_prompts(config)


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
