"""Rows and run folders made without any worker."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.dataset

from nabla_core.types import Cost, Prompt, Revision, Trace
from pipeline.inputs.prompts import Item, fingerprint
from pipeline.store.input_index import InputIndex
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import Slots
from pipeline.tables.traces import TRACES, key_columns, prompt_columns, trace_columns

NAMES = [f"p{n}" for n in range(7)]
SCHEMA = with_config(TRACES, "c0ffee")


def item(name: str, *, text: str | None = None, sample: int = 0) -> Item:
    prompt = Prompt.of(text or f"question {name}", id=name, answer="4", sample=sample)
    return Item(prompt, fingerprint(prompt))


def inputs(names: Sequence[str]) -> InputIndex:
    return InputIndex((name, item(name).fingerprint) for name in names)


def row(of: Item, *, error: str | None = None, attempt: int = 1) -> dict:
    columns = prompt_columns(of.prompt)
    if error is None:
        revision = Revision(
            position=0, from_token=1, to_token=2, from_text="1", to_text="2", confidence=0.5,
            grad_norm=0.1, advantage=0.2, reward_before=0.3, reward_after=0.4, accepted=True,
            tail_token_ids=(2, 2),
        )  # fmt: skip
        trace = Trace(
            prompt_id=of.prompt.id, sample=of.prompt.sample, prompt_text="rendered",
            text=f"answer to {of.prompt.id}", tokens=(1, 2), finish_reason="stop",
            base_text="base", base_tokens=(1, 1), base_reward=0.3, reward=0.4,
            revisions=(revision,), seed=0, cost=Cost(rollouts=2),
        )  # fmt: skip
        columns |= trace_columns(of.prompt, trace)
    return columns | {"seed": 0} | key_columns(of, "worker", attempt, error)


def store_in(folder: Path | str, **settings: int) -> RunStore:
    return RunStore(str(folder), SCHEMA, Store(**settings))


def finish(store: RunStore, names: Sequence[str] = NAMES, samples: int = 1) -> Slots:
    """Compact what the parts of a store hold, and mark the folder as finished."""
    slots = store.scan(inputs(names), samples)
    store.mark_complete({"checksums": store.compact(slots)})
    return slots


def keys(folder: Path, name: str = "data") -> list[tuple[str, int]]:
    """Keys of final rows in the order of files and rows."""
    files = sorted((folder / name).glob("*.parquet"))
    if not files:
        return []
    table = pyarrow.dataset.dataset(files).to_table(columns=["prompt_id", "sample"])
    return list(zip(*(table[c].to_pylist() for c in table.column_names), strict=True))
