"""What the shipped guides cost to train, for their cards: they are older than that record.

    python -m tests.bench.guide_costs [--prompts 40] [--write]

The rows that a guide learns from are made for some prompts, and their FLOPs scaled to all. Some
steps are taken and one measurement is made, and scaled to the steps and measurements of the
training. All of it with the settings of `configs/`; the shipped head stands for the teacher of the
guide, which has its shape. `--write` adds `cost` to the cards; nobody measured the seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nabla_core.embedded.weights import folder
from nabla_core.scheduler import drive
from pipeline.config import load
from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.plan import plan as plan_counterfactuals
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan as plan_traces
from pipeline.run.plan import Plan, open_store
from pipeline.store.checks import config_check
from pipeline.store.files import Folder
from pipeline.store.input_index import InputIndex
from pipeline.store.slots import Slots
from pipeline.tables.traces import key_columns
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.evaluation import calibration, measure
from pipeline.train_guide.setup import setup
from pipeline.train_guide.training import train_step
from pipeline.training.cost import COST, TrainingCost

CONFIGS = Path(__file__).parents[2] / "configs"
STEPS = 10


def make(made: Plan) -> int:
    """Make the rows of a plan in this process; how many."""
    store = open_store(made)
    config_check.check_config(Folder(made.run_dir), made.config, made.owner)
    maker = made.recipe.open()
    items = {
        (item.prompt.id, n): replace(item, prompt=replace(item.prompt, sample=n))
        for item in made.read()
        for n in range(made.samples)
    }
    flows = (maker.flow(item.prompt) for item in items.values())
    rows = []
    for result in drive(flows, maker.engines):
        item = items[result.prompt_id, result.sample]
        rows.append(maker.row(item.prompt, result) | key_columns(item, "worker", 1, None))
    store.commit(rows)
    index = InputIndex({i.prompt.id: i.fingerprint for i in items.values()}.items())
    slots = Slots(index, made.samples)
    store.rescan(slots)
    store.mark_complete({"checksums": store.compact(slots)})
    return len(rows)


def cost_of_training(config: TrainGuideConfig, all_rows: int, made: int) -> TrainingCost:
    """The cost of a training with this config, whose data are `made` of `all_rows` rows."""
    state = setup(config, "cpu")
    for _ in range(STEPS):
        train_step(state)
    measured = state.meter.measurements
    calibration(state)
    measure(state)
    measured = state.meter.measurements - measured
    data = state.meter.data
    steps, every = config.optimise.steps, config.validation.every
    return TrainingCost(
        steps=state.meter.steps * steps / STEPS,
        measurements=measured * -(-steps // every),
        data=None if data is None else data * all_rows / made,
        seconds=None,
    )


def main() -> None:
    """Count for both guides."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.guide_costs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="add the cost to the shipped cards")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        found = {"head": head(Path(root), given.prompts), "guide": guide(Path(root), given.prompts)}
    print(json.dumps({name: asdict(cost) for name, cost in found.items()}, indent=2))
    for name, cost in found.items():
        if given.write:
            write(folder(name), asdict(cost))  # type: ignore[arg-type]


def head(root: Path, prompts: int) -> TrainingCost:
    """The shipped head: 6,000 rows of counterfactuals."""
    file, run = CONFIGS / "counterfactuals_embedded.yaml", root / "explored"
    whole = load(CounterfactualsConfig, [file])
    config = load(CounterfactualsConfig, [file], [f"run_dir={run}", f"prompts.limit={prompts}"])
    rows = make(plan_counterfactuals(config))
    training = load(
        TrainGuideConfig,
        [CONFIGS / "train_head_embedded.yaml"],
        [f"run_dir={root / 'head'}", f"data.counterfactuals=[{run}]", "data.held_out=0.3"],
    )
    assert whole.prompts.limit is not None
    return cost_of_training(training, rows // prompts * whole.prompts.limit, rows)


def guide(root: Path, prompts: int) -> TrainingCost:
    """The shipped gradient guide: 6,000 traces, which a teacher labels."""
    file, run = CONFIGS / "traces_embedded.yaml", root / "traces"
    whole = load(GenerateConfig, [file])
    config = load(GenerateConfig, [file], [f"run_dir={run}", f"prompts.limit={prompts}"])
    rows = make(plan_traces(config))
    training = load(
        TrainGuideConfig,
        [CONFIGS / "train_guide_embedded.yaml"],
        [
            *(f"run_dir={root / 'guide'}", f"data.traces=[{run}]", "data.held_out=0.3"),
            f"teacher.path={folder('head')}",
        ],
    )
    assert whole.prompts.limit is not None
    return cost_of_training(training, whole.prompts.limit, rows)


def write(path: Path, cost: Mapping[str, Any]) -> None:
    """Add the cost to a card."""
    card = json.loads((path / "card.json").read_text())
    text = json.dumps({**card, COST: dict(cost)}, indent=2, ensure_ascii=False)
    (path / "card.json").write_text(text)


if __name__ == "__main__":
    main()
