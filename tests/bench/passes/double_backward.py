"""Memory and time of one step of guide training: gradient guide (double backward) and head.

    python -m tests.bench.passes.double_backward [--device cuda] [--threads 1] [--steps 2]
        [--only gradient/lora] [--rehearse]

The model is a Qwen2 0.5B with random weights. One step has one response of T = 256 tokens with 8
positions of 10 alternatives each, and does what `pipeline.train_guide.training.train_step` does:
forward, loss, backward, clipping, AdamW, with the product's defaults (embeddings frozen; eager
attention where the gradient is differentiated again). `lora` has rank 16 on every linear layer;
`half` freezes the first half of the layers. bf16 is autocast over fp32 weights. Every variant runs
in a process of its own, so that peaks do not mix; the first step is not timed. `--only` selects the
variants whose names start with its text; `--rehearse` uses a tiny model. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.guide_training.examples import Batch, Example, ScoredPosition
from nabla_core.guide_training.losses import loss
from nabla_core.guide_training.settings import Lora, Optimise, Target
from nabla_core.guide_training.trainees import GradientTrainee, HeadTrainee, Trainee, freeze
from pipeline.train_guide.lora import adapt
from tests.bench.gpu.card import synchronize
from tests.bench.shapes import HALF_B, TINY, Size, configuration

POSITIONS, ALTERNATIVES, RANK = 8, 10, 16
VARIANTS = [
    f"{kind}/{weights}/{dtype}"
    for kind in ("gradient", "head")
    for weights in ("full", "lora", "half")
    for dtype in ("float32", "bfloat16")
]
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.passes.double_backward")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="steps to time")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--only", default="", help="the beginning of a variant's name")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = replace(TINY, vocabulary=2048) if options.rehearse else HALF_B
    if options.variant:
        torch.set_num_threads(options.threads)
        print(json.dumps(measure(options.variant, size, options)))
        return
    print(
        f"Qwen2 {size.name}, V = {size.vocabulary}, T = {options.tokens}, {POSITIONS} positions x "
        f"{ALTERNATIVES} alternatives, a batch of one; {hardware(options)}"
    )
    print(f"{'kind/weights/dtype':24}{'learned M':>10}{'model':>8}{'over it':>9}{'total GiB':>11}"
          f"{'s a step':>10}{'CPU s':>7}")  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    for variant in (v for v in VARIANTS if v.startswith(options.only)):
        command = [sys.executable, "-m", "tests.bench.passes.double_backward", *sys.argv[1:]]
        output = subprocess.run(
            [*command, "--variant", variant], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        f = found[variant] = json.loads(output.strip().splitlines()[-1])
        print(
            f"{variant:24}{f['learned'] / 1e6:10.1f}{f['model_gib']:8.2f}{f['over_gib']:9.2f}"
            f"{f['total_gib']:11.2f}{f['seconds']:10.2f}{f['cpu_seconds']:7.2f}",
            flush=True,
        )
    line = {"model": size.name, "tokens": options.tokens, "hardware": hardware(options), **found}
    print(json.dumps(line))


def measure(variant: str, size: Size, options: argparse.Namespace) -> dict[str, float]:
    """Trained parameters; GiB of the loaded model, of the peak above it and in total; median wall
    and CPU seconds of a step. CPU seconds do not depend on what else the machine does."""
    kind, weights, dtype = variant.split("/")
    optimise = Optimise(
        lora=Lora(rank=RANK if weights == "lora" else 0),
        frozen_layers=size.layers // 2 if weights == "half" else 0,
        dtype="bfloat16" if dtype == "bfloat16" else "float32",
    )
    trainee = trainee_of(kind, size, optimise, options.device)
    batch = Batch.of([example(size, options.tokens)], torch.device(options.device))
    trained = [p for p in trainee.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    loaded = resident(options.device)
    forget_peak(options.device)
    times, busy = [], []
    for _ in range(options.steps + 1):
        synchronize()
        started, worked = time.perf_counter(), time.process_time()
        lost = step(trainee, batch, trained, optimizer, optimise)
        synchronize()
        times.append(time.perf_counter() - started)
        busy.append(time.process_time() - worked)
        if not math.isfinite(lost):
            raise SystemExit(f"{variant}: the loss is {lost}")
    total = peak(options.device)
    return {
        "learned": sum(p.numel() for p in trained),
        "model_gib": round(loaded / GIB, 3),
        "over_gib": round((total - loaded) / GIB, 3),
        "total_gib": round(total / GIB, 3),
        "seconds": round(statistics.median(times[1:]), 3),
        "cpu_seconds": round(statistics.median(busy[1:]), 3),
    }


def trainee_of(kind: str, size: Size, optimise: Optimise, device: str) -> Trainee:
    """A random model in the state in which `open_trainee` returns a trained one."""
    torch.manual_seed(0)
    trainee: Trainee
    if kind == "gradient":
        config = configuration(size, num_labels=1, attn_implementation=optimise.attention)
        trainee = GradientTrainee(Qwen2ForSequenceClassification(config), None, "random")
    else:
        config = configuration(size)
        config.tie_word_embeddings = False
        trainee = HeadTrainee(Qwen2ForCausalLM(config), None, "random")
    freeze(trainee.model, optimise, "random")
    put = adapt(optimise, seed=0)
    if put:
        put(trainee)
    trainee.model.eval().to(device)
    return trainee


def example(size: Size, tokens: int) -> Example:
    """A response with random ids. Positions are spread over its second half."""
    draw = random.Random(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(size.vocabulary - 2) for _ in range(count))

    half = tokens // 2
    places = [
        ScoredPosition(
            half + n * (half // POSITIONS),
            ids(1 + ALTERNATIVES),
            tuple(draw.gauss(0, 1) for _ in range(1 + ALTERNATIVES)),
            (0.0,) * (1 + ALTERNATIVES),
        )
        for n in range(POSITIONS)
    ]
    return Example("r", "r", ids(tokens), 0.0, tuple(places))


def step(
    trainee: Trainee,
    batch: Batch,
    trained: list[Any],
    optimizer: torch.optim.Optimizer,
    optimise: Optimise,
) -> float:
    """As `guide_training.train_step` on one worker."""
    optimizer.zero_grad()
    low = optimise.dtype == "bfloat16"
    with torch.autocast(batch.ids.device.type, torch.bfloat16) if low else nullcontext():
        values, rewards = trainee.predict(batch)
    lost = loss(values, rewards, batch, Target(), responses=1, positions=POSITIONS)
    torch.autograd.backward(lost, inputs=trained)
    torch.nn.utils.clip_grad_norm_(trained, optimise.clip)
    optimizer.step()
    return lost.item()


def resident(device: str) -> int:
    """Bytes in use now."""
    return torch.cuda.memory_allocated() if device == "cuda" else status("VmRSS")


def peak(device: str) -> int:
    """Peak of bytes in use since `forget_peak`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else status("VmHWM")


def forget_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def status(name: str) -> int:
    """One entry of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def hardware(options: argparse.Namespace) -> str:
    """The name of the GPU, or the threads and the CPU."""
    if options.device == "cuda":
        return torch.cuda.get_device_name()
    model = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return f"{options.threads} thread(s) of {model}, {platform.system()}"


if __name__ == "__main__":
    main()
