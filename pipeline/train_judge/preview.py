"""A dry run of `train-judge`: what it would fail at, and what it would train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nabla_core.config import BestOfN, Decoding
from nabla_core.types import Prompt
from pipeline.cluster.config import Actors, Cluster
from pipeline.errors import ConfigError, InputError
from pipeline.export.sources import Reader, open_sources
from pipeline.inputs.prompts import mapped_columns
from pipeline.inputs.prompts import read as read_prompts
from pipeline.preview.cost import of_decoding
from pipeline.preview.models import Models, check_fit, inspect, quick
from pipeline.preview.prompts import MOST, Rendered, render
from pipeline.preview.resources import check_devices
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.job import check_start
from pipeline.train_judge.models import lm_of, start_of
from pipeline.train_judge.ready import resolved

if TYPE_CHECKING:
    from nabla_core.models.outline import Outline

_COLUMNS = ("prompt_id", "response_token_ids", "tokenizer_fingerprint", "error")


@dataclass(frozen=True, kw_only=True)
class JudgePreview:
    """What a training would do.

    `rendered` is the `first` of `prompts` validation prompts, of which `answers` have an expected
    answer that `method` grades. `rows` is the number of rows of the data. `flops` is what training
    and all measurements cost, an estimate; `parameters` is the number of the models of a worker.
    """

    first: Prompt
    rendered: Rendered
    prompts: int
    answers: int
    method: str
    columns: dict[str, str] | None
    rows: int
    flops: float
    parameters: int
    warnings: list[str]


def preview(config: TrainJudgeConfig) -> JudgePreview:
    """Check a training and change nothing. Raises PipelineError and ModelError."""
    config, notes = resolved(config)
    with translate_os_errors(config.run_dir):
        check_start(open_folder(config.run_dir), config)
    models, start = _models(config)
    workers, validation = config.workers, config.validation
    asked = Cluster(
        address=workers.address,
        actors=Actors(workers.count, workers.count),
        cpus_per_actor=workers.cpus,
        gpus_per_actor=float(workers.gpu),
    )
    warnings = [*models.warnings, *check_devices(asked, "auto")]
    prompts = [item.prompt for item in read_prompts(validation.prompts)]
    rendered = render(prompts[:MOST], models, validation.max_tokens)
    rows, length = _rows(config)
    optimise = config.optimise
    assert optimise.steps is not None, "the config has checked it"
    example = 3.0 * start.shape.forward(round(rendered.tokens + length))
    measured = 1 + -(-optimise.steps // validation.every)
    return JudgePreview(
        first=prompts[0],
        rendered=rendered,
        prompts=len(prompts),
        answers=sum(prompt.answer is not None for prompt in prompts),
        method=validation.verify.method,
        columns=mapped_columns(validation.prompts),
        rows=rows,
        flops=optimise.steps * optimise.batch * example
        + len(prompts) * measured * _measurement(config, models, rendered.tokens),
        parameters=models.parameters + start.parameters,
        warnings=[*notes, *warnings, *rendered.warnings],
    )


def _models(config: TrainJudgeConfig) -> tuple[Models, Outline]:
    """The models that measure, and the start of the training."""
    from nabla_core.models.outline import outline  # noqa: PLC0415 - it imports torch

    searched = config.validation.search
    reward = config.reward if searched else replace(config.reward, guide=None, guide_revision=None)
    models = inspect(config.lm, reward, config.validation.nabla if searched else None)
    if models is None:
        raise ConfigError(f"lm.path={config.lm.path}: a judge is measured with a real LM")
    # The output layer may be a new one.
    start = outline(*start_of(config), "reward", new_output=True)
    models.warnings.extend(check_fit(models.lm, start, config.reward, "start"))
    if models.judge is None:
        # The new judge is all that is measured, and its own guide where no other is named.
        models = replace(models, judge=start, guide=models.guide or start)
    return models, start


def _measurement(config: TrainJudgeConfig, models: Models, tokens: float) -> float:
    """FLOPs of a measurement, for each validation prompt."""
    validation = config.validation
    asked = []
    if validation.search:
        asked.append(Decoding(max_tokens=validation.max_tokens, nabla=validation.nabla))
    if validation.samples:
        samples = BestOfN(validation.samples, validation.sampling)
        asked.append(Decoding("best_of_n", validation.max_tokens, best_of_n=samples))
    return sum(of_decoding(decoding, models, tokens).flops for decoding in asked)


def _rows(config: TrainJudgeConfig) -> tuple[int, float]:
    """The number of rows of the data, and the mean length of first responses. Raises InputError
    where a run has tokens of another tokenizer. That of a large LM is not read."""
    sources = open_sources(config.data.runs, allow_partial=config.data.allow_partial)
    path, revision = lm_of(config)
    own = None
    if quick(path):
        from nabla_core.models.pretrained import load_tokenizer  # noqa: PLC0415 - slow
        from nabla_core.text.fingerprint import fingerprint  # noqa: PLC0415

        own = fingerprint(load_tokenizer(path, revision))
    rows, lengths = 0, []
    for source in sources:
        for row in _first(Reader([source])):
            if own is not None and row["tokenizer_fingerprint"] not in (own, None):
                raise InputError(
                    f"{source.uri} (prompt {row['prompt_id']}): its tokens are of the tokenizer "
                    f"{row['tokenizer_fingerprint']}, that of lm.path={config.lm.path} is {own}"
                )
            lengths.append(len(row["response_token_ids"] or ()))
        rows += sum(table.num_rows for _, _, table in Reader([source]).scan(("prompt_id",)))
    return rows, sum(lengths) / max(len(lengths), 1)


def _first(reader: Reader) -> Iterator[dict[str, Any]]:
    for _, _, table in reader.scan(_COLUMNS):
        yield from (row for row in table.slice(0, 8).to_pylist() if row["error"] is None)
        return
