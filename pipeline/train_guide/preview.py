"""A dry run of `train-guide`: what it would fail at, and what it would train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from nabla_core.config import Decoding
from nabla_core.models.location import check_locations
from nabla_core.types import Prompt
from pipeline.cluster.config import Actors, Cluster
from pipeline.errors import InputError
from pipeline.inputs.prompts import mapped_columns
from pipeline.inputs.prompts import read as read_prompts
from pipeline.preview.cost import of_decoding
from pipeline.preview.models import Models, check_fit, check_value_head, quick
from pipeline.preview.prompts import MOST, Rendered, render
from pipeline.preview.resources import check_devices
from pipeline.store.checks.config_check import compare_config
from pipeline.store.reader import finished_rows
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.data import TABLES, check_folders
from pipeline.train_guide.models import judge_of, lm_of, model_paths, start_of, teacher_of
from pipeline.train_guide.ready import OWNER, check_ready, resolved

if TYPE_CHECKING:
    from nabla_core.models.outline import Outline
    from nabla_core.models.value_head import ValueHeadConfig


@dataclass(frozen=True, kw_only=True)
class TrainPreview:
    """What a training would do.

    `rendered` is the `first` of `prompts` validation prompts, of which `answers` have an expected
    answer that `method` grades. `folders` are the folders of the data. `flops` is what training and
    all measurements cost, an estimate; `parameters` is the number of the models of a worker.
    """

    first: Prompt
    rendered: Rendered
    prompts: int
    answers: int
    method: str
    columns: dict[str, str] | None
    folders: list[str]
    flops: float
    parameters: int
    warnings: list[str]


def preview(config: TrainGuideConfig) -> TrainPreview:
    """Check a training and change nothing. Raises PipelineError and ModelError."""
    config, notes = resolved(config)
    local = not Cluster(address=config.workers.address).ray_address
    if local:
        check_locations(model_paths(config))
    check_folders(config.data, config.target)
    check_ready(config.optimise, config.validation)
    with translate_os_errors(config.run_dir):
        compare_config(open_folder(config.run_dir), config, OWNER)
    lm, judge, start, warnings = _models(config)
    workers = config.workers
    asked = Cluster(
        address=workers.address,
        actors=Actors(workers.count, workers.count),
        cpus_per_actor=workers.cpus,
        gpus_per_actor=float(workers.gpu),
    )
    warnings += check_devices(asked, "auto")
    validation = config.validation
    prompts = [item.prompt for item in read_prompts(validation.prompts)]
    models = Models(
        lm=lm,
        judge=judge,
        guide=judge if config.kind == "value_head" else start,
        kind=config.kind,
        warnings=warnings,
        value_head=_value_head(config, lm),
    )
    rendered = render(prompts[:MOST], models, validation.max_tokens)
    search = of_decoding(
        Decoding(max_tokens=validation.max_tokens, nabla=validation.nabla), models, rendered.tokens
    )
    optimise = config.optimise
    measured = -(-optimise.steps // validation.every)
    return TrainPreview(
        first=prompts[0],
        rendered=rendered,
        prompts=len(prompts),
        answers=sum(prompt.answer is not None for prompt in prompts),
        method=validation.verify.method,
        columns=mapped_columns(validation.prompts),
        folders=[*config.data.counterfactuals, *config.data.traces],
        flops=optimise.steps * optimise.batch * _example(config, start, rendered.tokens)
        + measured * len(prompts) * search.flops,
        parameters=models.parameters,
        warnings=[*notes, *warnings, *rendered.warnings, *_check_lm(config)],
    )


def _models(config: TrainGuideConfig) -> tuple[Outline, Outline, Outline, list[str]]:
    """LM, judge and start of the training, and sentences about how they fit."""
    from nabla_core.models.outline import outline  # noqa: PLC0415 - it imports torch

    lm = outline(*lm_of(config), "lm")
    judge = outline(*judge_of(config), "reward")
    warnings = check_fit(lm, judge, config.reward, "judge")
    if config.kind == "value_head":  # on the LM
        return lm, judge, lm, warnings
    # The output layer may be a new one.
    kind: Literal["head", "reward"] = "head" if config.kind == "head" else "reward"
    start = outline(*start_of(config), kind, new_output=True)
    warnings += check_fit(lm, start, config.reward, "guide")
    teacher = teacher_of(config)
    if teacher is not None:
        warnings += check_fit(lm, outline(*teacher, "head"), config.reward, "teacher")
    return lm, judge, start, warnings


def _value_head(config: TrainGuideConfig, lm: Outline) -> ValueHeadConfig | None:
    """The sizes of the value head to train; None for a guide of another kind. Raises ModelError
    where training would start from that of another LM."""
    if config.kind != "value_head":
        return None
    if config.start.path != "lm":
        return check_value_head(*start_of(config), lm.source)
    from nabla_core.models.value_head import ValueHeadConfig  # noqa: PLC0415 - it imports torch

    width = config.value_head.width
    return ValueHeadConfig(hidden_size=lm.shape.hidden, vocab_size=lm.outputs, width=width)


def _first_rows(config: TrainGuideConfig) -> Iterator[tuple[dict[str, Any], str]]:
    for kind, paths in (
        ("counterfactuals", config.data.counterfactuals),
        ("traces", config.data.traces),
    ):
        for path in paths:
            yield from islice(finished_rows(path, TABLES[kind]), 1)


def _check_lm(config: TrainGuideConfig) -> list[str]:
    """Raises InputError where the data was made with another LM. That of a large LM is not read."""
    path, _ = lm_of(config)
    if not quick(path):
        return [f"not compared with the LM of the data: {path}"]
    from nabla_core.models.identity import identify  # noqa: PLC0415 - it imports torch

    revision = identify(path, None).revision
    for row, location in _first_rows(config):
        if row["generation_revision"] != revision:
            raise InputError(
                f"{location} (prompt {row['prompt_id']}): made with the LM "
                f"{row['generation_model']} {row['generation_revision']}, and lm.path is {path} "
                f"{revision}"
            )
    return []


def _example(config: TrainGuideConfig, start: Outline, prompt: float) -> float:
    """FLOPs of training on a response of the length of the first ones: forward, and backward to
    the weights; for a gradient guide three times that, for it is differentiated twice. Of a value
    head the backbone reads forward alone, and only once: the estimate is a high one."""
    lengths = [len(row["response_token_ids"]) for row, _ in _first_rows(config)]
    length = round(prompt + sum(lengths) / max(len(lengths), 1))
    passes = {"value_head": 1.0, "head": 3.0, "gradient": 9.0}
    return passes[config.kind] * start.shape.forward(length)
