"""Speed and memory of an export, and what the tokens of candidates take on disk.

    python -m tests.bench.export FOLDER [rows]    # default: a million
    python -m tests.bench.export --candidates

The first exports a synthetic run of so many rows, and of a tenth, in processes of their own:
plainly, and with decontamination, near duplicates and the top half. The second measures bytes a row
by `store.candidates`. The last line is one JSON object.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from nabla_core.config import Decoding, NablaConfig, Ranked, Sampling
from nabla_core.embedded import task
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.scheduler import drive
from nabla_core.types import Prompt, Revision, Trace
from pipeline.export.config import Decontamination, ExportConfig, Filters, NearDuplicates
from pipeline.export.job import export
from pipeline.generate.recipe import TraceRecipe
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Item, fingerprint
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder, checksum_of
from pipeline.store.parts import with_config
from pipeline.store.settings import Candidates
from pipeline.tables.traces import TRACES, key_columns, prompt_columns, trace_columns
from tests.bench.arguments import show_help

BLOCK = 1000
PER_FILE = 50_000
WORDS = [f"w{n}" for n in range(5000)]
SETTINGS: dict[str, Filters] = {
    "plain": Filters(),
    "filters": Filters(
        decontamination=Decontamination(benchmarks=("BENCHMARK",)),
        near_duplicates=NearDuplicates(threshold=0.9),
        top_fraction=0.5,
    ),
}


def row(name: str, text: str, answer: str, revisions: int, length: int, draw: random.Random) -> Any:
    """A row whose response has `length` tokens of a vocabulary of 150,000, drawn at random."""

    def drawn(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(2, 150_000) for _ in range(count))

    prompt = Prompt.of(text, id=name, answer="1")
    made = []
    for n in range(revisions):
        position = draw.randrange(length)
        tail = (*drawn(length - position - 1), 1)
        made.append(
            Revision(
                position=position, from_token=2, to_token=tail[0], from_text="a", to_text="b",
                confidence=draw.random(), grad_norm=draw.random(), advantage=draw.random(),
                reward_before=draw.random(), reward_after=draw.random(), accepted=n % 4 == 0,
                tail_token_ids=tail,
            )
        )  # fmt: skip
    trace = Trace(
        prompt_id=name, sample=0, prompt_text=text, text=answer, tokens=(*drawn(length - 1), 1),
        finish_reason="stop", base_text=answer, base_tokens=(*drawn(length - 1), 1),
        base_reward=draw.random(), reward=draw.random(), revisions=tuple(made), seed=0,
        log_probabilities=tuple(-draw.random() for _ in range(length)),
    )  # fmt: skip
    return prompt, trace


def columns(prompt: Prompt, trace: Trace, candidates: Candidates = "all") -> dict[str, Any]:
    keys = key_columns(Item(prompt, fingerprint(prompt)), "worker", 1, None)
    return {**prompt_columns(prompt), **trace_columns(prompt, trace, candidates), **keys}


def synthetic_run(path: Path, rows: int) -> None:
    """A finished run folder: responses of 20 words and 24 tokens, one revision."""
    draw = random.Random(0)
    schema = with_config(TRACES, "c0ffee")
    texts = [" ".join(draw.choices(WORDS, k=20)) for _ in range(BLOCK)]
    block = pa.Table.from_pylist(
        [columns(*row(f"p{n}", text, text, 1, 24, draw)) for n, text in enumerate(texts)],
        schema=schema,
    )
    folder = Folder(str(path))
    claim_owner(folder, Owner("generate", "traces/5"))
    folder.write("config.yaml", yaml.safe_dump({"lm": {"path": "embedded"}}).encode())
    files = [range(start, min(start + PER_FILE, rows)) for start in range(0, rows, PER_FILE)]
    sums: dict[str, str] = {}
    for n, numbers in enumerate(files):
        name = f"data/train-{n:05d}-of-{len(files):05d}.parquet"
        target = path / name
        target.parent.mkdir(exist_ok=True)
        with pq.ParquetWriter(target, schema, compression="zstd", write_page_checksum=True) as sink:
            for start in numbers[::BLOCK]:
                sink.write_table(_renamed(block, start, min(BLOCK, numbers.stop - start), draw))
        sums[name] = folder.checksum(name)
    manifest = json.dumps({"checksums": sums}).encode()
    folder.write("manifest.json", manifest)
    folder.write("_SUCCESS", f"{checksum_of(manifest)}\n".encode())


def _renamed(block: pa.Table, start: int, count: int, draw: random.Random) -> pa.Table:
    """The block with prompts of its own."""
    numbers = range(start, start + count)
    values = {
        "prompt_id": [f"p{n}" for n in numbers],
        "input_fingerprint": [blake2b(f"{n}".encode(), digest_size=8).hexdigest() for n in numbers],
        "question": [" ".join(draw.choices(WORDS, k=20)) for _ in numbers],
        "reward": [draw.random() for _ in numbers],
    }
    table = block.slice(0, count)
    for name, column in values.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(column))
    return table


def measure(run: str, out: str, filters: str, benchmark: str) -> None:
    """Export in this process and print seconds and the peak of its memory."""
    chosen = asdict(SETTINGS[filters])
    chosen["decontamination"] = Decontamination(
        benchmarks=(benchmark,) if chosen["decontamination"]["benchmarks"] else ()
    )
    chosen["near_duplicates"] = NearDuplicates(**chosen["near_duplicates"])
    config = ExportConfig(run_dir=(run,), out=out, filters=Filters(**chosen))
    started, cpu = time.monotonic(), time.process_time()
    facts = export(config, lambda phase, done, total: None).facts
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    found = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": peak,
        "kept": facts["kept"],
    }
    print(json.dumps(found))


def speed(folder: Path, rows: int) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for count in (rows // 10, rows):
        run = folder / f"run-{count}"
        if not (run / "_SUCCESS").exists():
            synthetic_run(run, count)
        benchmark = folder / "benchmark.jsonl"
        benchmark.write_text(json.dumps({"question": " ".join(WORDS[:100])}) + "\n")
        for name in SETTINGS:
            out = folder / f"out-{count}-{name}"
            shutil.rmtree(out, ignore_errors=True)
            command = [sys.executable, "-m", "tests.bench.export", "--measure"]
            done = subprocess.run(
                [*command, str(run), str(out), name, str(benchmark)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1])
            size = sum(file.stat().st_size for file in out.rglob("*.parquet"))
            report[f"{name} {count}"] = {**found, "bytes": size}
            print(
                f"{count:>9,} rows  {name:<8} {found['kept']:>9,} kept  "
                f"{count / found['seconds']:>8,.0f} rows/s  "
                f"{count / found['cpu_seconds']:>8,.0f} rows a CPU second  "
                f"{found['peak_mib']:>6,.0f} MiB at most"
            )
            shutil.rmtree(out)
    return report


def searched(count: int) -> Sequence[tuple[Prompt, Trace]]:
    """Traces of the default search with the embedded models."""
    search = NablaConfig(
        proposals="ranked", ranked=Ranked(beta=1.0), rollout=Sampling(temperature=0)
    )
    recipe = TraceRecipe(
        lm=LM(), reward=Reward(guide="embedded-head"), decoding=Decoding(nabla=search),
        runtime=Runtime(device="cpu"), verify=Verify(method="none"), seed=0, config_hash="c0ffee",
    )  # fmt: skip
    maker = recipe.open()
    prompts = {p.id: p for p in task.prompts(count, seed=0, split="test")}
    made = drive((maker.flow(p) for p in prompts.values()), maker.engines)
    return [(prompts[trace.prompt_id], trace) for trace in made]


def bytes_a_row(traces: Sequence[tuple[Prompt, Trace]]) -> dict[str, float]:
    """Bytes of a final file a row, by `store.candidates`; and without the columns of version 3."""
    new = ("base_token_ids", "response_log_probabilities", "tokenizer_fingerprint")
    found: dict[str, float] = {}
    for candidates in get_args(Candidates):
        rows = [columns(prompt, trace, candidates) for prompt, trace in traces]
        table = pa.Table.from_pylist(rows, schema=TRACES)
        found[candidates] = _bytes(table) / len(rows)
        if candidates == "none":
            found["version 2"] = _bytes(table.drop_columns(list(new))) / len(rows)
    return found


def _bytes(table: pa.Table) -> int:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return int(sink.getvalue().size)


def candidates() -> dict[str, dict[str, float]]:
    draw = random.Random(0)
    cases = {
        "embedded search, 100 prompts": searched(100),
        "400 random tokens, 16 candidates, 200 rows": [
            row(f"p{n}", "question", "answer", 16, 400, draw) for n in range(200)
        ],
    }
    report = {name: bytes_a_row(traces) for name, traces in cases.items()}
    for name, found in report.items():
        sizes = "  ".join(f"{kind}: {size:,.0f}" for kind, size in found.items())
        print(f"{name}, bytes a row:  {sizes}")
    return report


def main() -> None:
    show_help(__doc__)
    arguments = sys.argv[1:]
    if arguments[:1] == ["--measure"]:
        measure(*arguments[1:])
        return
    report: Any
    if arguments == ["--candidates"]:
        report = candidates()
    else:
        rows = int(arguments[1]) if len(arguments) > 1 else 1_000_000
        report = speed(Path(arguments[0]), rows)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
