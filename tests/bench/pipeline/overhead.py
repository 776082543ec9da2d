"""What the pipeline adds to the bare loop, and what batching saves.

    python -m tests.bench.pipeline.overhead [prompts]   0 prompts: only the third part

1. Seconds per prompt of the bare loop (`drive` in this process) and of the pipeline (`generate`
   with one actor on a local Ray, every row committed to disk). Both run `prompts` and an eighth of
   them. The difference gives the cost of one further prompt, without start-up.
2. CPU seconds per prompt of the bare loop at batch 1 and 32.
3. The pipeline with an engine that sleeps 0, 0.1 and 1 s per prompt, one commit per row: seconds
   per prompt from the first pass of the engine to the last.

One torch thread. Prints tables; the last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from nabla_core import LM, Decoding, Runtime, drive, flow, load_engines
from nabla_core.embedded import task
from nabla_core.engines.base import Engines
from nabla_core.engines.scripted import from_path
from pipeline.config import load
from pipeline.generate.config import GenerateConfig
from pipeline.generate.job import generate
from pipeline.run.prompt_status import PromptStatus
from tests.bench.arguments import show_help
from tests.bench.arms import quiet

# Seconds per prompt -> number of prompts that is enough to measure the difference.
STUBS = {0.0: 2048, 0.1: 256, 1.0: 64}


class SilentWatcher:
    """A watcher that ignores all events."""

    def started(self, total: int, finished: int, dead: int) -> None: ...
    def on_status(self, status: PromptStatus) -> None: ...
    def phase(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...


def main() -> None:
    show_help(__doc__)
    quiet()
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    config = load(
        GenerateConfig,
        ["configs/embedded.yaml"],
        [
            "decoding.method=nabla",
            "cluster.actors.min=1",
            "cluster.actors.max=1",
            "store.flush_rows=16",
        ],
    )
    report: dict[str, float] = embedded(config, many) if many else {}
    for seconds, count in STUBS.items():
        report |= stub(config, seconds, count)
    print(json.dumps({k: round(v, 4) for k, v in report.items()}))


def embedded(config: GenerateConfig, many: int) -> dict[str, float]:
    """Parts 1 and 2, with the embedded models."""
    few = many // 8
    engines = load_engines(config.lm, config.reward, config.runtime)
    bare(config, engines, few)
    short, long = (bare(config, engines, n) for n in (few, many))
    row_bare = (long - short) / (many - few)
    row_ray, start_up = a_prompt_through_ray(config, many)
    batches = {b: cpu_a_prompt(config, b, few if b == 1 else many) for b in (1, 32)}
    report: dict[str, float] = {
        "prompts": many,
        "bare_ms_a_prompt": 1000 * row_bare,
        "pipeline_ms_a_prompt": 1000 * row_ray,
        "overhead_ratio": row_ray / row_bare,
        "start_up_s": start_up,
        "batch_1_cpu_ms": 1000 * batches[1],
        "batch_32_cpu_ms": 1000 * batches[32],
        "batch_1_over_32": batches[1] / batches[32],
    }
    print(f"{many} embedded prompts, {config.decoding.nabla.proposals} proposals, one actor")
    for name, value in report.items():
        print(f"{name:24}{value:10.2f}")
    return report


def stub(config: GenerateConfig, seconds: float, many: int) -> dict[str, float]:
    """Part 3. The engine takes one prompt at a time and logs its passes."""
    path = f"scripted?delay={seconds}"
    config = replace(
        config,
        lm=LM(path),
        decoding=Decoding(method="sample"),
        runtime=Runtime(max_batch=1),
        store=replace(config.store, flush_rows=1),
    )
    row_bare = bare(config, from_path(path, max_batch=1), many) / many
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        config = replace(config, lm=LM(f"{path}&log={log}"))
        with ThreadPoolExecutor(1) as pool:
            passes = pool.submit(first_and_last_pass, log, many)
            took = through_ray(config, many, Path(folder) / "run")
            first, last = passes.result()
    row_ray = (last - first) / (many - 1)
    start_up = took - many * row_ray
    figures = (1000 * row_bare, 1000 * row_ray, row_ray / row_bare - 1)
    print(
        f"engine of {seconds:g} s, {many} prompts: bare {figures[0]:.2f} ms per prompt, pipeline "
        f"{figures[1]:.2f} ms ({figures[2]:+.1%}), start-up and end {start_up:.1f} s"
    )
    names = ("bare_ms", "pipeline_ms", "overhead")
    return {f"stub_{seconds:g}s_{name}": value for name, value in zip(names, figures, strict=True)}


def first_and_last_pass(log: Path, count: int) -> tuple[float, float]:
    """The times when the log of the engine had its first line and when it had `count` lines."""
    seen: list[float] = []
    while len(seen) < 2:
        lines = log.read_bytes().count(b"\n") if log.exists() else 0
        if lines >= (count if seen else 1):
            seen.append(time.perf_counter())
        time.sleep(0.01)
    return seen[0], seen[1]


def a_prompt_through_ray(config: GenerateConfig, many: int) -> tuple[float, float]:
    """Wall seconds of one further prompt, and of the start-up."""
    few = many // 8
    with tempfile.TemporaryDirectory() as folder:
        first, second = (through_ray(config, n, Path(folder) / str(n)) for n in (few, many))
    row = (second - first) / (many - few)
    return row, first - few * row


def bare(config: GenerateConfig, engines: Engines, count: int) -> float:
    """Wall seconds of the bare loop."""
    prompts = task.prompts(count, seed=0, split="test")
    started = time.perf_counter()
    flows = (flow(p, config.decoding, seed=config.seed) for p in prompts)
    made = sum(1 for _ in drive(flows, engines, in_flight=config.cluster.in_flight))
    assert made == count
    return time.perf_counter() - started


def through_ray(config: GenerateConfig, count: int, folder: Path) -> float:
    """Wall seconds of the whole pipeline, start of Ray included."""
    prompts = replace(config.prompts, limit=count)
    started = time.perf_counter()
    outcome = generate(replace(config, run_dir=str(folder), prompts=prompts), SilentWatcher())
    assert outcome.finished == count
    return time.perf_counter() - started


def cpu_a_prompt(config: GenerateConfig, batch: int, count: int) -> float:
    """CPU seconds per prompt of the bare loop at one batch size."""
    engines = load_engines(config.lm, config.reward, Runtime(max_batch=batch))
    prompts = task.prompts(count, seed=0, split="test")
    started = time.process_time()
    flows = (flow(p, config.decoding, seed=config.seed) for p in prompts)
    in_flight = 1 if batch == 1 else 3 * batch
    made = sum(1 for _ in drive(flows, engines, in_flight=in_flight))
    assert made == count
    return (time.process_time() - started) / count


if __name__ == "__main__":
    main()
