"""Run folders of `nabla generate`, made in this process on the embedded models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nabla_core.config import Decoding
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.scheduler import drive
from pipeline.compare.readings import ReadingTask
from pipeline.compare.results import Results, read_results
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.run.plan import open_store
from pipeline.store.checks import config_check
from pipeline.store.files import Folder
from pipeline.store.input_index import InputIndex
from pipeline.store.slots import Slots
from pipeline.tables.traces import key_columns


def settings(path: Path, decoding: Decoding, **more: object) -> GenerateConfig:
    values: dict[str, object] = {
        "run_dir": str(path),
        "prompts": Prompts(path="embedded", split="test", skip=14, limit=6),
        "decoding": replace(decoding, max_tokens=20),
        "reward": Reward(guide="embedded-head"),
        "runtime": Runtime(device="cpu", dtype="float32"),
        "verify": Verify(method="embedded"),
        **more,
    }
    return GenerateConfig(**values)  # type: ignore[arg-type]


def make(config: GenerateConfig) -> Results:
    """Make the run, and read it."""
    made = plan(config)
    store = open_store(made)
    config_check.check_config(Folder(config.run_dir), made.config, made.owner)
    maker = made.recipe.open()
    items = {
        (item.prompt.id, n): replace(item, prompt=replace(item.prompt, sample=n))
        for item in made.read()
        for n in range(made.samples)
    }
    traces = drive((maker.flow(item.prompt) for item in items.values()), maker.engines)
    rows = []
    for trace in traces:
        item = items[trace.prompt_id, trace.sample]
        rows.append(maker.row(item.prompt, trace) | key_columns(item, "worker", 1, None))
    store.commit(rows)
    index = InputIndex({i.prompt.id: i.fingerprint for i in items.values()}.items())
    slots = Slots(index, made.samples)
    store.rescan(slots)
    store.mark_complete({"checksums": store.compact(slots)})
    return read_results(Path(config.run_dir).name, config.run_dir)


def task_of(config: GenerateConfig, folder: Path, **more: object) -> ReadingTask:
    name = Path(config.run_dir).name
    values: dict[str, object] = {
        "name": name,
        "run_dir": config.run_dir,
        "config": config,
        "reference": LM(),
        "kl_samples": 4,
        "second_judge": None,
        "folder": str(folder),
        "file": f"{name}.parquet",
        **more,
    }
    return ReadingTask(**values)  # type: ignore[arg-type]
