"""A worker of a distillation as Ray Train starts it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import ray.train
import transformers
from ray.train.torch import get_device

from nabla_core.errors import NablaError
from nabla_core.models.identity import identify
from nabla_core.types import Identity
from pipeline.distill.checkpoints import Checkpoints
from pipeline.distill.config import DistillConfig
from pipeline.distill.exports import Export, read_exports
from pipeline.distill.folder import LOGS
from pipeline.distill.measure import Greedy, measure
from pipeline.distill.models import judge_of, student_of
from pipeline.distill.rows import Rows, load_rows
from pipeline.distill.student import Student, check_readable, load_student, save_deliverable
from pipeline.distill.trainers import Prepared, build_trainer
from pipeline.errors import PipelineError
from pipeline.inputs.prompts import read as read_prompts
from pipeline.store.checks.models_check import read_models, require_same
from pipeline.store.files import Folder
from pipeline.store.run_folder import translate_os_errors
from pipeline.training.disk import full_disk_named
from pipeline.training.failure import has_failed, write_failure
from pipeline.training.group import agree_on_models, all_workers
from pipeline.training.trainer import History, resume_history


@dataclass(kw_only=True)
class Training:
    """What a worker has before the first step."""

    exports: list[Export]
    student: Student
    models: dict[str, Identity]
    rows: Rows
    prepared: Prepared
    callback: Checkpoints


def work(config: DistillConfig) -> None:
    """The function that every worker runs.

    An error of ours would repeat in every attempt. It is stored in the run folder and the worker
    returns: for a worker that raises, Ray Train would start all of them again.
    """
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    folder = Folder(config.run_dir)
    _quiet(config, folder)
    with tempfile.TemporaryDirectory(prefix="nabla-distill-") as scratch, _checkpoint() as saved:
        # A stored error means that Ray Train has started this worker again: it would only repeat.
        training = None
        if not has_failed(folder):
            training = _storing(folder, lambda: _setup(config, folder, Path(scratch), saved, rank))
        if not all_workers(training is not None, world, get_device()) or training is None:
            return
        try:
            with translate_os_errors(config.run_dir), full_disk_named(folder):
                agree_on_models(training.models, folder, rank, world)
                training.prepared.trainer.train(
                    resume_from_checkpoint=str(saved) if saved else None
                )
        except (NablaError, PipelineError) as error:
            write_failure(folder, error)
            if world > 1:  # the others may wait for this worker in an all_reduce, for ever
                raise


def _setup(
    config: DistillConfig, folder: Folder, scratch: Path, saved: Path | None, rank: int
) -> Training:
    device = get_device()
    exports = read_exports(config)
    student = load_student(config)
    check_readable(student.tokenizer, student.identity.name, exports)
    models = {"student": student.identity}
    judge = judge_of(config)
    if judge is not None:
        models["judge"] = identify(*judge)
    require_same(folder, read_models(folder), models)
    provenance = {
        f"student.path {student.identity.name}": student.identity.revision,
        **{f"data {e.name}": e.digest for e in exports},
    }
    rows = load_rows(exports, config.data, scratch / "rows")
    output = scratch / "checkpoints"
    history = resume_history(saved, provenance) if saved else History({}, {})

    def deliver(checkpoint: Path, target: Path) -> Greedy:
        save_deliverable(config, checkpoint, target)
        return measure(str(target), config.validation, judge, device, config.template_date)

    callback = Checkpoints(
        config,
        output,
        history,
        provenance,
        deliver,
        held_out=rows.held_out is not None,
        rank=rank,
    )
    prepared = build_trainer(
        config,
        exports[0].kind,
        student,
        rows,
        output=str(output),
        cpu=device.type == "cpu",
        callbacks=[callback],
    )
    if saved is not None and rank == 0:
        # The file may be damaged, or of a later step that was lost with its checkpoint.
        history.write(folder)
    if saved is None and rank == 0:
        base, _ = student_of(config)
        history.baseline = asdict(
            measure(base, config.validation, judge, device, config.template_date)
        )
        history.description = _describe(config, exports, student, models, rows, prepared)
    return Training(
        exports=exports,
        student=student,
        models=models,
        rows=rows,
        prepared=prepared,
        callback=callback,
    )


def _describe(
    config: DistillConfig,
    exports: list[Export],
    student: Student,
    models: dict[str, Identity],
    rows: Rows,
    prepared: Prepared,
) -> dict[str, Any]:
    """The part of the student's card on base and data."""
    trainer = prepared.trainer
    lora = config.optimise.lora
    asked = [item.prompt.id for item in read_prompts(config.validation.prompts)]
    return {
        "base": asdict(student.identity),
        "judge": asdict(models["judge"]) if "judge" in models else None,
        "weights": {
            "trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            "method": f"LoRA of rank {lora.rank}, merged" if lora.rank else "full",
        },
        "loss": "sft" if exports[0].kind == "responses" else "dpo + sft",
        "data": {
            "exports": [export.describe() for export in exports],
            "rows": len(trainer.train_dataset),
            "held_out": len(trainer.eval_dataset) if trainer.eval_dataset is not None else 0,
            "left_out": dict(prepared.left_out),
            "validation_overlap": rows.overlap(asked),
        },
    }


def _storing(folder: Folder, make: Any) -> Any:
    """What `make` returns; None where it raises, after the error is stored in the run folder."""
    try:
        with full_disk_named(folder):
            return make()
    except (NablaError, PipelineError) as error:
        write_failure(folder, error)
        return None


@contextmanager
def _checkpoint() -> Iterator[Path | None]:
    """The files of the last checkpoint, None where there is none."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as path:
        yield Path(path)


def _quiet(config: DistillConfig, folder: Folder) -> None:
    """No progress bars in the logs of workers, and TensorBoard's files in the run folder."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if "tensorboard" in config.report_to and folder.local:
        os.environ["TENSORBOARD_LOGGING_DIR"] = folder.path(LOGS)
