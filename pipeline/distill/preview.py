"""A dry run of `distill`: what it would fail at, and what it would train."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import pyarrow.parquet as pq

from pipeline.cluster.config import Actors, Cluster
from pipeline.distill.config import DistillConfig
from pipeline.distill.conversations import conversations
from pipeline.distill.exports import KINDS, Export, export_config, read_exports
from pipeline.distill.folder import CARD
from pipeline.distill.job import check_start, resolved
from pipeline.distill.models import judge_of, student_of
from pipeline.export.config import ExportConfig
from pipeline.export.preview import preview as preview_export
from pipeline.export.student import load_student as load_tokenizer
from pipeline.inputs.prompts import read as read_prompts
from pipeline.preview.resources import check_devices
from pipeline.store.files import Folder
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.training.folder import HISTORY
from pipeline.training.progress import read_progress

# Rows whose lengths are measured.
MEASURED = 100

State = Literal["new", "begun", "complete"]


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on. `folders` are a line each. `rows` are those of training, `about` whether
    they are estimated from the first traces of run folders. `sample` are the first ones."""

    folders: list[str]
    format: str
    rows: int
    about: bool
    sample: list[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class DistillPreview:
    """What a distillation would do.

    `step` of `steps` are taken already. `row_tokens` is the mean length of the rows of the sample,
    prompts included; of `sampled` ones `too_long` would be left out. `memory` is what weights,
    gradients and optimiser take in a worker, in bytes; `trained` of `parameters` weights are
    trained. `prompts` are those of validation, of which `answers` have an answer.
    """

    state: State
    step: int
    data: Data
    loss: str
    steps: int
    row_tokens: float
    sampled: int
    too_long: int
    parameters: int
    trained: int
    memory: int
    prompts: int
    answers: int
    method: str
    warnings: list[str]


def preview(config: DistillConfig) -> DistillPreview:
    """Check a distillation and change nothing. Raises PipelineError and ModelError."""
    config, notes = resolved(config)
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        check_start(folder, config)
        progress = read_progress(folder)
        state: State = "begun" if folder.exists(HISTORY) else "new"
        state = "complete" if folder.exists(CARD) else state
    workers = config.workers
    asked = Cluster(
        address=workers.address,
        actors=Actors(workers.count, workers.count),
        cpus_per_actor=workers.cpus,
        gpus_per_actor=float(workers.gpu),
    )
    warnings = [*notes, *check_devices(asked, "auto")]
    # Last: run folders are filtered, which takes the longest.
    model = _Student.of(config)
    data = _of_runs(config) if config.export.run_dir else _of_exports(config, model)
    lengths = [model.length(row) for row in data.sample]
    limit = min(config.data.max_length or model.context, model.context)
    prompts = [item.prompt for item in read_prompts(config.validation.prompts)]
    pairs = KINDS[data.format] == "pairs"
    optimise = config.optimise
    return DistillPreview(
        state=state,
        step=progress.step if progress and state != "new" else 0,
        data=data,
        loss="dpo + sft" if pairs else "sft",
        steps=optimise.steps or math.ceil(math.ceil(data.rows / optimise.batch) * optimise.epochs),
        row_tokens=sum(lengths) / len(lengths) if lengths else 0.0,
        sampled=len(lengths),
        too_long=len([length for length in lengths if length > limit]),
        parameters=model.parameters,
        trained=model.trained,
        memory=model.memory(config, reference=pairs and not optimise.lora.rank),
        prompts=len(prompts),
        answers=sum(prompt.answer is not None for prompt in prompts),
        method=config.validation.verify.method,
        warnings=warnings,
    )


@dataclass(frozen=True, kw_only=True)
class _Student:
    """The student without its weights."""

    name: str
    tokenizer: Any
    context: int
    parameters: int
    trained: int
    frozen_bytes: int

    @classmethod
    def of(cls, config: DistillConfig) -> _Student:
        """Raises ModelError where student or judge cannot be loaded or trained."""
        # They import torch, which takes seconds.
        from nabla_core.models.outline import empty_model, outline  # noqa: PLC0415
        from nabla_core.models.pretrained import load_config  # noqa: PLC0415
        from pipeline.distill.student import require_pad_token  # noqa: PLC0415
        from pipeline.training.arguments import adapters  # noqa: PLC0415

        path, revision = student_of(config)
        found = outline(path, revision, "lm")
        require_pad_token(found.tokenizer, path)
        judge = judge_of(config)
        if judge is not None:
            outline(*judge, "reward")
        model = empty_model(path, load_config(path, revision), "lm")
        lora = config.optimise.lora
        adapted = adapters(lora, model, output="lm_head", task="CAUSAL_LM")
        trained = found.parameters
        if adapted is not None:
            targets = set(adapted.target_modules)
            trained = sum(
                lora.rank * (module.in_features + module.out_features)
                for name, module in model.named_modules()
                if name.rpartition(".")[2] in targets
            )
        size = 2 if config.optimise.dtype == "bfloat16" else 4
        return cls(
            name=path,
            tokenizer=found.tokenizer,
            context=found.context,
            parameters=found.parameters,
            trained=trained,
            frozen_bytes=size * found.parameters if adapted is not None else 0,
        )

    def memory(self, config: DistillConfig, *, reference: bool) -> int:
        """Bytes of a worker: float32 weights, gradients and two moments of what is trained, what is
        frozen, and the reference of DPO."""
        size = 2 if config.optimise.dtype == "bfloat16" else 4
        whole = 16 * self.trained + self.frozen_bytes + reference * size * self.parameters
        return whole // (config.workers.count if config.optimise.fsdp else 1)

    def length(self, row: Mapping[str, Any]) -> int:
        """Tokens of a row, prompt included; of a pair the longer one."""
        if "input_ids" in row:
            return len(row["input_ids"])
        if "messages" in row:
            return self._tokens(row["messages"], row)
        if "completion" in row:
            return self._tokens(row["prompt"] + row["completion"], row)
        return max(self._tokens(row["prompt"] + row[name], row) for name in ("chosen", "rejected"))

    def _tokens(
        self, text: str | Sequence[str | Mapping[str, object]], row: Mapping[str, Any]
    ) -> int:
        from nabla_core.text.chat_template import render  # noqa: PLC0415 - beside torch

        tools = row.get("tools")
        rendered = (
            text
            if isinstance(text, str)
            else render(
                self.tokenizer,
                # Read by Arrow, turns that call tools are JSON texts.
                [json.loads(turn) if isinstance(turn, str) else turn for turn in text],
                tools=tools and json.loads(tools),
            )
        )
        return len(self.tokenizer.encode(rendered, add_special_tokens=False))


def _of_exports(config: DistillConfig, model: _Student) -> Data:
    """Raises InputError where the student's tokenizer or template does not fit the rows."""
    from pipeline.distill.student import check_readable  # noqa: PLC0415 - it imports torch

    exports = read_exports(config)
    check_readable(model.tokenizer, model.name, exports)
    if any(export.tokenizer is None for export in exports):
        # Messages, which the student's own template renders.
        load_tokenizer(*student_of(config)).check_template()
    limit = config.data.limit
    counts = [min(e.facts["splits"]["train"], limit or math.inf) for e in exports]
    own_split = any(e.facts["splits"].get("test") for e in exports)
    share = 1.0 if own_split else 1.0 - config.data.held_out
    return Data(
        folders=[
            f"{e.name}: {count:,} rows of format {e.format}"
            for e, count in zip(exports, counts, strict=True)
        ],
        format=exports[0].format,
        rows=round(sum(counts) * share),
        about=not own_split and config.data.held_out > 0,
        sample=_sample(exports[0]),
    )


def _sample(export: Export) -> list[Mapping[str, Any]]:
    if export.is_file:
        return [*islice(conversations(export.path), MEASURED)]
    folder = Folder(export.path)
    names = (name for name in export.facts["files"] if name.startswith("default/train-"))
    with folder.fs.open_input_file(folder.path(min(names))) as source:
        batches = pq.ParquetFile(source).iter_batches(batch_size=MEASURED)
        return [row for batch in islice(batches, 1) for row in batch.to_pylist()]


def _of_runs(config: DistillConfig) -> Data:
    exported: ExportConfig = export_config(config)
    found = preview_export(exported)
    share = found.kept / found.read if found.read else 0.0
    held_out = exported.split.held_out or config.data.held_out
    # Of pairs a trace may make several.
    exact = found.read == found.total and not held_out and KINDS[exported.format] == "responses"
    return Data(
        folders=[f"{name}: {rows:,} traces" for name, rows, _ in found.sources],
        format=exported.format,
        rows=round(found.total * share * (1.0 - held_out)),
        about=not exact,
        sample=[*islice(found.rows, MEASURED)],
    )
