"""A worker of a distillation as Ray Train starts it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray.train.torch import get_device

from nabla_core.models.identity import identify
from nabla_core.types import Identity
from pipeline.distill.checkpoints import Checkpoints
from pipeline.distill.config import DistillConfig
from pipeline.distill.exports import Export, flops_of_data, read_exports
from pipeline.distill.measure import Greedy, measure
from pipeline.distill.models import judge_of, student_of
from pipeline.distill.rows import Rows, load_rows
from pipeline.distill.student import Student, check_readable, load_student, save_deliverable
from pipeline.distill.trainers import Prepared, build_trainer
from pipeline.inputs.prompts import read as read_prompts
from pipeline.store.checks.models_check import read_models, require_same
from pipeline.store.files import Folder
from pipeline.training.passes import count_passes
from pipeline.training.trainer import History, resume_history
from pipeline.training.trainer_worker import train


@dataclass(kw_only=True)
class Training:
    """What a worker has before the first step."""

    models: dict[str, Identity]
    trainer: Any


def work(config: DistillConfig) -> None:
    """The function that every worker runs."""

    def setup(scratch: Path, saved: Path | None, rank: int) -> Training:
        return _setup(config, Folder(config.run_dir), scratch, saved, rank)

    train(config.run_dir, "distill", config.report_to, setup, cpus=config.workers.cpus)


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
    callback.meter.data = flops_of_data(exports)
    count_passes(
        prepared.trainer, callback.meter, recomputes=config.optimise.gradient_checkpointing
    )
    if saved is not None and rank == 0:
        # The file may be damaged, or of a later step that was lost with its checkpoint.
        history.write(folder)
    if saved is None and rank == 0:
        base, _ = student_of(config)
        before = measure(base, config.validation, judge, device, config.template_date)
        callback.meter.measurements += before.flops
        history.baseline = asdict(before)
        history.description = _describe(config, exports, student, models, rows, prepared)
    return Training(models=models, trainer=prepared.trainer)


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
