"""The yield of a run, counted row by row."""

from __future__ import annotations

import pyarrow as pa
import pytest

from nabla_core.config import Decoding, NablaConfig, Sampling
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.generate.recipe import TraceRecipe
from pipeline.grading.graders import Verify
from pipeline.tables.traces import TRACES
from pipeline.tables.yield_counter import YieldCounter
from pipeline.tables.yields import attempted, yield_of
from pipeline.tune.recipe import TuneRecipe
from tests.pipeline.rows import item, row


def graded(prompt: str, *answers: bool | None, first: bool | None = None) -> list[dict]:
    """The responses to a prompt, each 1 GFLOP; the first responses are right as `first` says."""
    made = []
    for sample, correct in enumerate(answers):
        one = row(item(prompt)) | {"sample": sample, "correct": correct, "base_correct": first}
        made.append(one | {"cost": one["cost"] | {"flops": 1e9}})
    return made


def table(*rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist([one for part in rows for one in part], schema=TRACES)


def counted(*tables: pa.Table, greedy_first: bool = True) -> dict | None:
    counter = YieldCounter(greedy_first=greedy_first)
    assert list(counter.counting(tables)) == list(tables)
    return counter.as_dict()


def test_a_prompt_with_one_right_response_is_solved_wherever_its_rows_are():
    dead = [row(item("p3"), error="ValueError: no") | {"correct": True}]
    first = table(graded("p0", True, False, first=False), graded("p1", False, first=True), dead)
    second = table(graded("p1", True, first=True), graded("p2", False, False, first=False))
    assert counted(first, second) == {
        "prompts": 3,
        "right": pytest.approx(2 / 3),
        "hard": 2,
        "right_on_hard": 0.5,
        "right_per_gflop": pytest.approx(2 / 6),
        "pass_at": {"1": pytest.approx(1 / 3), "2": pytest.approx(2 / 3)},
    }
    # The same as of rounds, which keep ids.
    by_id = attempted([first, second])
    assert by_id is not None
    assert counted(first, second)["right"] == yield_of(by_id).right
    assert counted(first, second)["pass_at"]["1"] == yield_of(by_id, k=1).right


def test_what_is_not_known_is_not_told():
    one = table(graded("p0", True, first=False), graded("p1", None))
    found = counted(one, greedy_first=False)
    assert (found["prompts"], found["hard"], found["right_on_hard"]) == (1, None, None)
    assert found["pass_at"] == {}
    assert counted(table(graded("p1", None))) is None
    assert counted() is None


@pytest.mark.parametrize(
    ("decoding", "hard"),
    [
        (Decoding(nabla=NablaConfig(rollout=Sampling(0))), 1),
        # The first response is no greedy one.
        (Decoding(nabla=NablaConfig(rollout=Sampling(0, beta=0.5))), None),
        (Decoding(nabla=NablaConfig(rollout=Sampling(0.7))), None),
        (Decoding("guided"), None),
    ],
)
def test_hard_prompts_are_known_where_a_search_begins_greedily(decoding, hard):
    common = {
        "lm": LM(), "reward": Reward(), "decoding": decoding, "runtime": Runtime(),
        "verify": Verify(), "seed": 0, "config_hash": "c0ffee",
    }  # fmt: skip
    recipe = TraceRecipe(**common)
    read = table(graded("p0", True, first=False)).select(recipe.summary_columns)
    totals = recipe.summarise([read])
    assert totals["yield"]["hard"] == hard
    assert totals["means"]["correct"] == 1.0
    # The rows of `nabla tune` are of different methods.
    assert "yield" not in TuneRecipe(**common).summarise([read])
