"""A worker of a judge's training as Ray Train starts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.train.torch import get_device

from nabla_core.types import Identity
from pipeline.store.checks.models_check import read_models, require_same
from pipeline.store.files import Folder
from pipeline.train_judge.checkpoints import Checkpoints
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.models import judge_of
from pipeline.train_judge.report import summary
from pipeline.train_judge.setup import assemble, deliver
from pipeline.training.cost import total_of_data
from pipeline.training.passes import count_passes
from pipeline.training.trainer import History, resume_history
from pipeline.training.trainer_worker import train


@dataclass(kw_only=True)
class Training:
    """What a worker has before the first step."""

    models: Mapping[str, Identity]
    trainer: Any


def work(config: TrainJudgeConfig) -> None:
    """The function that every worker runs."""

    def setup(scratch: Path, saved: Path | None, rank: int) -> Training:
        return _setup(config, Folder(config.run_dir), scratch, saved, rank)

    train(config.run_dir, "train-judge", config.report_to, setup, cpus=config.workers.cpus)


def _setup(
    config: TrainJudgeConfig, folder: Folder, scratch: Path, saved: Path | None, rank: int
) -> Training:
    device = get_device()
    assembled = assemble(config, device)
    models = assembled.models
    require_same(folder, read_models(folder), models)
    provenance = assembled.provenance()
    history = resume_history(saved, provenance) if saved else History({}, {})
    # Only the first worker measures.
    examiner = assembled.examiner() if rank == 0 else None

    def measured(checkpoint: Path, target: Path) -> tuple[float, dict[str, Any]]:
        assert examiner is not None, "only the first worker measures"
        before = examiner.flops
        found = deliver(assembled, examiner, checkpoint, target)
        callback.meter.measurements += examiner.flops - before
        return found

    output = scratch / "checkpoints"
    callback = Checkpoints(config, output, history, provenance, measured, rank=rank)
    trainer = assembled.trainer(str(output), cpu=device.type == "cpu", callbacks=[callback])
    callback.meter.data = total_of_data(assembled.answers.sources)
    count_passes(trainer, callback.meter, recomputes=config.optimise.gradient_checkpointing)
    if examiner is not None and saved is not None:
        # The file may be damaged, or of a later step that was lost with its checkpoint.
        history.write(folder)
    if examiner is not None and saved is None:
        last = judge_of(config)
        if last is not None:
            figures = examiner.examine(last)
            history.baseline = {**summary(figures), "report": figures}
        # The samples of the base too; after a resume they are in the cost so far.
        callback.meter.measurements += examiner.flops
        history.description = assembled.describe(trainer)
    return Training(models=models, trainer=trainer)
