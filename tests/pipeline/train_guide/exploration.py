"""Counterfactuals of tiny models, made without Ray, and trainings on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from nabla_core.methods.counterfactuals import Explore
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.scheduler import drive
from pipeline.config import load
from pipeline.counterfactuals.recipe import CounterfactualRecipe
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Item, Prompts, index
from pipeline.inputs.prompts import read as read_prompts
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import Slots
from pipeline.tables.counterfactuals import COUNTERFACTUALS
from pipeline.tables.traces import key_columns
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.setup import setup
from pipeline.train_guide.state import TrainingState
from tests.core.tiny import Family

TEXTS = [f"{n}+{n * 7 % 10}*3-{n % 4}" for n in range(16)]
TEMPERATURES = (0.0, 1.0)


def explored_folder(family: Family, root: Path) -> Path:
    """A finished run folder of counterfactuals of the family, with its prompts beside it in
    prompts.jsonl; two responses to each of 16 prompts."""
    path = root / "prompts.jsonl"
    prompts = [{"id": f"q{n}", "prompt": text} for n, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in prompts))
    maker = CounterfactualRecipe(
        lm=LM(str(family.lm)),
        reward=Reward(str(family.judge)),
        explore=Explore(temperatures=TEMPERATURES, positions=2, alternatives=4),
        runtime=Runtime(device="cpu"),
        verify=Verify(method="none"),
        max_tokens=8,
        seed=0,
        config_hash="c0ffee",
    ).open()
    items = list(read_prompts(Prompts(path=str(path))))
    samples = {
        (item.prompt.id, n): Item(replace(item.prompt, sample=n), item.fingerprint)
        for item in items
        for n in range(len(TEMPERATURES))
    }
    rows = []
    for explored in drive((maker.flow(item.prompt) for item in samples.values()), maker.engines):
        item = samples[explored.prompt_id, explored.sample]
        row = maker.row(item.prompt, explored)
        rows.append({**row, **key_columns(item, "worker", 1, None)})
    store = RunStore(str(root / "run"), with_config(COUNTERFACTUALS, "c0ffee"), Store())
    store.commit(rows)
    slots = Slots(index(items, "prompts"), len(TEMPERATURES))
    store.rescan(slots)
    store.mark_complete({"checksums": store.compact(slots)})
    return root / "run"


def settings(family: Family, explored: Path, run: Path | str, *more: str) -> list[str]:
    """Overrides of `jobs.train_guide` that train a head on the folder in six steps."""
    prompts = explored.parent / "prompts.jsonl"
    return [
        *(f"run_dir={run}", f"data.counterfactuals=[{explored}]", "data.held_out=0.3"),
        *(f"lm.path={family.lm}", f"reward.judge={family.judge}", f"start.path={family.guide}"),
        *("kind=head", "optimise.steps=6", "optimise.batch=6", "optimise.warmup=2"),
        *(f"validation.prompts.path={prompts}", "validation.prompts.split=null"),
        *("validation.prompts.limit=4", "validation.max_tokens=8", "validation.every=2"),
        *more,
    ]


def training_state(family: Family, explored: Path, *more: str) -> TrainingState:
    """The state that a worker with these overrides starts from."""
    # The driver has replaced `auto` before a worker starts.
    asked = settings(family, explored, "unused", "validation.verify.method=none", *more)
    return setup(load(TrainGuideConfig, (), asked), "cpu")
