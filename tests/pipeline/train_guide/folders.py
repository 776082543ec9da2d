"""Run folders of counterfactuals and traces, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nabla_core.guide_training.settings import Target
from nabla_core.methods.counterfactuals import Explored, Place
from nabla_core.types import Cost, Identity
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import Slots
from pipeline.tables.counterfactuals import explored_columns
from pipeline.tables.traces import key_columns, prompt_columns
from pipeline.train_guide.config import Data
from pipeline.train_guide.data import mix
from tests.pipeline.rows import inputs, item

PLACES = (
    Place(
        1, 0.75, (5, 6, 7), (-0.5, -1.0, -9.0), (1.0, 3.0, 0.0),
        ((0.0, 2.0), (2.0, 4.0), (-1.0, 1.0)),
    ),
    Place(3, 0.5, (8, 9), (-0.25, -2.0), (1.0, 0.5), ((1.0, 1.0), (0.0, 1.0))),
)  # fmt: skip


EXPLORED = Explored(
    prompt_id="a", sample=0, prompt_text="rendered", prompt_tokens=(1, 2), tokens=(4, 5, 6, 8),
    text="text", finish_reason="stop", temperature=0.7, score=1.0, places=PLACES, seed=0,
    cost=Cost(rollouts=6, flops=5.0),
)  # fmt: skip


LM = Identity("lm", "sha256:lm1")


BEARS = {
    "generation_model": "lm elsewhere",
    "generation_revision": "sha256:lm1",
    "tokenizer_fingerprint": "tok1",
    "judge_revision": "j1",
}


def folder(path: Path, schema: Any, rows: list[dict[str, Any]]) -> str:
    store = RunStore(str(path), with_config(schema, "c0ffee"), Store())
    store.commit(rows)
    slots = Slots(inputs(list(dict.fromkeys(row["prompt_id"] for row in rows))), 1)
    store.rescan(slots)
    store.mark_complete({"checksums": store.compact(slots)})
    return str(path)


def explored_row(name: str, explored: Explored = EXPLORED, **changes: Any) -> dict[str, Any]:
    of = item(name)
    row = {**prompt_columns(of.prompt), **explored_columns(explored), **BEARS, "scorer": "judge"}
    return {**row, **key_columns(of, "worker", 1, None), **changes}


def read(target: Target | None = None, **data: Any) -> Any:
    asked = Data(**{k: (v,) if isinstance(v, str) else v for k, v in data.items()})
    return mix(asked, target=target or Target(), lm=LM, tokenizer="tok1")
