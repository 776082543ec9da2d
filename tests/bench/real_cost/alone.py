"""The parts of `tests.bench.real_cost` that need no real LM."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nabla_core import Reward, Runtime, Sampling, drive, flow, load_engines
from nabla_core.embedded import task
from nabla_core.models.attention import grouped_attention
from nabla_core.sampling import draw
from tests.bench.arms import GREEDY, ranked_arm
from tests.bench.real_cost.timing import Compared, Plan, Row, compared, row, spread_of


def drawing(plan: Plan) -> Iterator[Row]:
    """64 rows of logits with a few likely tokens, as an LM's; flat ones as of random weights."""
    for size in (49_152, 151_936):
        generator = torch.Generator().manual_seed(0)
        normal = torch.randn(64, size, generator=generator).to(plan.device)
        uniforms = torch.rand(64, dtype=torch.float64, generator=generator).to(plan.device)
        for name, scale, sampling in (
            ("", 4.0, Sampling(0.6, 0.95)),
            (" flat", 1.0, Sampling(0.6, 0.95)),
            (" greedy", 4.0, GREEDY),
        ):
            logits = scale * normal
            ours = partial(draw, logits, sampling, uniforms)
            plain = partial(torch.softmax, logits, -1)
            yield row(f"draw V={size}{name}", compared(ours, plain, plan))


def attention(plan: Plan) -> Iterator[Row]:
    """One layer's attention of one token in each of 32 rows, of SmolLM2's shape, half of them
    padded; over that of transformers."""
    for width in (100, 400):
        generator = torch.Generator().manual_seed(0)
        shapes = ((9, 1), (3, width), (3, width))
        query, key, value = (
            torch.randn(32, heads, tokens, 64, generator=generator).to(plan.device, plan.dtype)
            for heads, tokens in shapes
        )
        mask = torch.ones(32, 1, 1, width, dtype=torch.bool, device=plan.device)
        mask[::2, :, :, : width // 2] = False
        layer = SimpleNamespace(num_key_value_groups=3, is_causal=True)

        def plain(given: Any = (layer, query, key, value, mask)) -> None:
            with torch.inference_mode():
                for _ in range(20):
                    ALL_ATTENTION_FUNCTIONS["sdpa"](*given)

        def ours(plain: Any = plain) -> None:
            with grouped_attention():
                plain()

        yield row(f"attention, {width} tokens", compared(ours, plain, plan))


def starting(plan: Plan) -> Iterator[Row]:
    """CPU seconds of new processes, and of the wall."""
    load = (
        "from nabla_core import *; from nabla_core.model_config import LM; "
        "load_engines(LM('embedded'), Reward('embedded', guide='embedded'))"
    )
    with tempfile.TemporaryDirectory() as folder:
        config = Path(__file__).resolve().parents[3] / "configs" / "embedded.yaml"
        dry = ["-m", "jobs.generate", "--config", str(config), "--dry-run", f"run_dir={folder}/run"]
        yield _process("dry run", dry, plan)
        yield _process("actor's models", ["-c", load], plan)


def _process(name: str, arguments: Sequence[str], plan: Plan) -> Row:
    times = []
    for _ in range(plan.rounds):
        before = os.times()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])
        times.append((cpu, after.elapsed - before.elapsed))
    cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
    spread = spread_of(tuple(cpu for cpu, _ in times))
    return Row(name, cpu, {"spread": spread, "unit": "CPU s", "wall": f"{wall:.3g} s"})


def embedded(plan: Plan) -> Iterator[Row]:
    """The default search on the embedded models, over the time of its matrix products alone."""
    engines = load_engines(reward=Reward("embedded", guide="embedded"), runtime=Runtime())
    prompts = task.prompts(16 if plan.rounds == 1 else 96, seed=0, split="validation")
    arm = ranked_arm(1.0, -3.0, 2.0)
    # The embedded models' own width; a larger product would run at a higher rate.
    a, b = torch.randn(512, 64), torch.randn(64, 128)
    cost = 0.0

    def search() -> None:
        nonlocal cost
        cost = sum(t.cost.flops for t in drive((flow(p, arm) for p in prompts), engines))

    repeats = 2000

    def products() -> None:
        for _ in range(repeats):
            a @ b

    found = compared(search, products, plan)
    # The products took so much longer than those of the search would.
    more = 2 * 512 * 64 * 128 * repeats / cost
    ratios = tuple(ratio * more for ratio in found.ratios)
    found = Compared(found.mine, found.other / more, ratios)
    yield row("embedded", found, prompts=len(prompts))
