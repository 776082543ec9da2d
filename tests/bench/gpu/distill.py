"""Training steps of a student on a GPU: tokens a second, peak memory, and the loss in bf16.

    python -m tests.bench.gpu.distill [--output results.json] [--rehearse]

`--rehearse` runs every step on the CPU with a tiny model, to check the script without a card. Its
figures mean nothing.

The student is a from-config Qwen2 of 1.5B with random weights, V = 151,936, and is trained by the
trainer of `nabla distill` on random responses of 768 tokens to prompts of 256: LoRA of rank 32,
bf16, with and without gradient checkpointing.

1. The loss of the same rows in float32 and in bf16, before a step.
2. Median seconds of a step, tokens a second, the share of the card's matmul rate, peak memory.
3. The loss of the first and of the last step: every step trains on the same rows, so it falls.

The last line is one JSON object with the same figures; it is also written to the file named.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from transformers import PrinterCallback, Qwen2ForCausalLM, TrainerCallback

from nabla_core.guide_training.settings import Lora
from nabla_core.model_config import LM
from nabla_core.models.flops import Shape
from pipeline.distill.config import DistillConfig, TrainingRows
from pipeline.distill.rows import KEY, Rows
from pipeline.distill.student import load_student
from pipeline.distill.trainers import build_trainer
from pipeline.training.config import Finetune
from tests.bench.arms import quiet
from tests.bench.gpu.card import CARD, REHEARSAL, Plan, matmul_rate, run_script, synchronize
from tests.bench.shapes import ONE_AND_A_HALF_B, TINY, Size, configuration, tokenizer

WARM_UP = 2


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model and its rows. `prompt` and `response` are tokens, `batch` and `micro_batch` rows."""

    size: Size
    plan: Plan
    prompt: int
    response: int
    batch: int
    micro_batch: int
    steps: int


FULL = Task(
    size=ONE_AND_A_HALF_B,
    plan=CARD,
    prompt=256,
    response=768,
    batch=16,
    micro_batch=8,
    steps=12,
)
TRIAL = Task(
    size=replace(TINY, vocabulary=2048),
    plan=REHEARSAL,
    prompt=8,
    response=24,
    batch=4,
    micro_batch=2,
    steps=4,
)


class Steps(TrainerCallback):  # type: ignore[misc]
    """The seconds and the loss of every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._started = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        synchronize()
        self._started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        synchronize()
        self.seconds.append(time.perf_counter() - self._started)

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


def main() -> None:
    quiet()
    datasets.disable_progress_bars()
    run_script("tests.bench.gpu.distill", measure, card=FULL, rehearsal=TRIAL)


def measure(task: Task) -> dict[str, Any]:
    """Measure everything and print each row as soon as it is known."""
    rate = matmul_rate(task.plan)
    card = torch.cuda.get_device_name() if task.plan.device == "cuda" else "no card: a rehearsal"
    print(f"{card}: {rate / 1e12:.3g} TFLOP/s in {task.plan.dtype}, measured")
    with tempfile.TemporaryDirectory() as scratch:
        student = save_student(task.size, Path(scratch) / "student")
        fp32, bf16 = (loss(student, task, dtype) for dtype in (torch.float32, torch.bfloat16))
        print(f"loss of {task.micro_batch} rows: float32 {fp32:.4f}, bfloat16 {bf16:.4f}")
        print(
            f"{'checkpointing':15}{'step s':>8}{'tokens/s':>10}{'of matmul':>11}{'peak GiB':>10}"
            f"{'first loss':>12}{'last loss':>11}"
        )
        rows = []
        for checkpointing in (True, False):
            rows.append(row := train(student, Path(scratch), task, checkpointing, rate))
            print(
                f"{row['gradient_checkpointing']!s:15}{row['step_s']:8.2f}{row['tokens_s']:10.0f}"
                f"{row['of_matmul_rate']:11.2f}{row['peak_gib']:10.1f}"
                f"{row['first_loss']:12.3f}{row['last_loss']:11.3f}",
                flush=True,
            )
    return {
        "card": card,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "matmul_tflops": rate / 1e12,
        "loss_float32": fp32,
        "loss_bfloat16": bf16,
        "steps": rows,
    }


def save_student(size: Size, folder: Path) -> Path:
    """A model of random weights as a folder."""
    torch.manual_seed(0)
    Qwen2ForCausalLM(configuration(size)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer(size.vocabulary).save_pretrained(folder)
    return folder


def token_rows(task: Task, stop: int) -> dict[str, list[Any]]:
    """Rows of one step: random prompts and responses, the stop token last."""
    length = task.prompt + task.response
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, stop - 1, (task.batch, length), generator=generator)
    drawn[:, -1] = stop
    labels = drawn.clone()
    labels[:, : task.prompt] = -100
    names = [f"row {n}" for n in range(task.batch)]
    return {"input_ids": drawn.tolist(), "labels": labels.tolist(), KEY: names}


@torch.no_grad()
def loss(student: Path, task: Task, dtype: torch.dtype) -> float:
    """Mean loss of a token of the first rows, the model's weights and products in `dtype`."""
    model = Qwen2ForCausalLM.from_pretrained(student, dtype=dtype).to(task.plan.device).eval()
    rows = token_rows(task, task.size.vocabulary - 1)
    ids, labels = (
        torch.tensor(rows[name][: task.micro_batch], device=task.plan.device)
        for name in ("input_ids", "labels")
    )
    logits = model(input_ids=ids).logits[:, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()))


def train(
    student: Path, scratch: Path, task: Task, checkpointing: bool, rate: float
) -> dict[str, Any]:
    """Train on the same rows at every step."""
    config = DistillConfig(
        data=TrainingRows(exports=("random rows",)),
        student=LM(str(student)),
        optimise=Finetune(
            steps=task.steps,
            batch=task.batch,
            micro_batch=task.micro_batch,
            learning_rate=1e-3,
            schedule="constant",
            warmup=0.0,
            dtype="bfloat16" if task.plan.dtype == torch.bfloat16 else "float32",
            gradient_checkpointing=checkpointing,
            lora=Lora(rank=32, alpha=64),
        ),
    )
    loaded = load_student(config)
    shape = Shape.of(loaded.model.base_model, loaded.model.config, task.size.vocabulary)
    rows = Rows(datasets.Dataset.from_dict(token_rows(task, task.size.vocabulary - 1)), None)
    steps = Steps()
    trainer = build_trainer(
        config,
        "responses",
        loaded,
        rows,
        output=str(scratch / "checkpoints"),
        cpu=task.plan.device == "cpu",
        callbacks=[steps],
    ).trainer
    trainer.remove_callback(PrinterCallback)  # it prints every loss between the rows
    trainer.args.logging_steps = 1
    if task.plan.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    step_s = statistics.median(steps.seconds[WARM_UP:])
    length = task.prompt + task.response
    forward = shape.forward(length) + shape.head(length)
    # Weights are frozen: the backward pass goes to the inputs alone, as costly as the forward pass.
    passes = 3 if checkpointing else 2
    return {
        "gradient_checkpointing": checkpointing,
        "step_s": step_s,
        "tokens_s": task.batch * length / step_s,
        "of_matmul_rate": passes * task.batch * forward / step_s / rate,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0,
        "first_loss": steps.losses[0],
        "last_loss": steps.losses[-1],
    }


if __name__ == "__main__":
    main()
