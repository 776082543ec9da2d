"""The same training without Ray: one process, TRL's trainer as the workers build it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config import load
from pipeline.distill.config import DistillConfig
from pipeline.distill.exports import read_exports
from pipeline.distill.rows import load_rows
from pipeline.distill.student import check_readable, load_student
from pipeline.distill.trainers import Prepared, build_trainer

# A chat template for the plain family, which has none: a response ends with the stop token.
TEMPLATE = (
    "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<eos>{% endif %}"
    "{% endfor %}"
)


def prepared(asked: Sequence[str], scratch: Path, callbacks: Sequence[Any] = ()) -> Prepared:
    """The trainer of these overrides of `jobs.distill`."""
    config = load(DistillConfig, (), list(asked))
    exports = read_exports(config)
    student = load_student(config)
    check_readable(student.tokenizer, student.identity.name, exports)
    rows = load_rows(exports, config.data, scratch / "rows")
    return build_trainer(
        config,
        exports[0].kind,
        student,
        rows,
        output=str(scratch / "out"),
        cpu=True,
        callbacks=list(callbacks),
    )


def trained_alone(asked: Sequence[str], scratch: Path) -> dict[str, Tensor]:
    """The weights after the last step."""
    trainer = prepared(asked, scratch).trainer
    trainer.train()
    return dict(trainer.model.state_dict())
