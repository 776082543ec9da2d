"""The data sets that students are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nabla_core.embedded import task
from nabla_core.embedded.tokenizer import STOP_ID, encode
from tests.bench.distill.sources import PLAIN_SAMPLES, SAMPLES, Row, Source

Sources = Mapping[str, Source]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """`rows` to train on; `flops` of generating all that they were chosen from."""

    rows: list[Row]
    flops: float


def everything(source: str) -> Callable[[Sources], DataSet]:
    """All responses of a source that stop by themselves."""
    return lambda made: _of(made[source], made[source].rows)


def verified(source: str) -> Callable[[Sources], DataSet]:
    """Those whose answer is right."""
    return lambda made: _of(made[source], (row for row in made[source].rows if row.correct))


def top_half(made: Sources) -> DataSet:
    """The half of the search traces with the highest rewards."""
    rows = sorted(made["search"].rows, key=lambda row: -(row.reward or 0.0))
    return _of(made["search"], rows[: len(rows) // 2])


def changed(made: Sources) -> DataSet:
    """The search traces that differ from the greedy response."""
    return _of(made["search"], (row for row in made["search"].rows if row.tokens != row.base))


def best_of_equal_rows(made: Sources) -> DataSet:
    """Best of 8 by the judge, as many prompts as were searched."""
    return _of(made["samples"], map(best, by_prompt(made["samples"].rows)))


def best_of_equal_flops(made: Sources) -> DataSet:
    """Best of 8 of so many prompts as cost what the search cost."""
    source = made["samples"]
    count = min(source.prompts, int(source.prompts * made["search"].flops / source.flops))
    chosen = map(best, by_prompt(source.rows)[:count])
    return DataSet(rows=_stopping(chosen), flops=source.flops * count / source.prompts)


def star(made: Sources) -> DataSet:
    """Right samples, each text of a prompt once (STaR, Zelikman et al., arXiv 2203.14465)."""
    rows = {(row.id, *row.tokens): row for row in made["samples"].rows if row.correct}
    plain = made["plain"]  # no judge reads these
    flops = plain.flops / plain.prompts / PLAIN_SAMPLES * SAMPLES * made["samples"].prompts
    return DataSet(rows=_stopping(rows.values()), flops=flops)


def gold(made: Sources) -> DataSet:
    """The right response to each prompt of the search."""
    rows = [
        Row(
            id=row.id,
            prompt=row.prompt,
            tokens=[*encode(task.solve(row.prompt)), STOP_ID],
            correct=True,
            reward=None,
        )
        for row in made["search"].rows
    ]
    return DataSet(rows=rows, flops=0.0)


# In the order of their importance: a run that is cut short has the first ones.
ARMS: dict[str, Callable[[Sources], DataSet]] = {
    "search, verified": verified("search"),
    "best of 8, equal FLOPs": best_of_equal_flops,
    "samples, verified (STaR)": star,
    "null arm, verified": verified("null"),
    "null arm": everything("null"),
    "search": everything("search"),
    "guided, verified": verified("guided"),
    "guided": everything("guided"),
    "search, top half by judge": top_half,
    "search, changed": changed,
    "best of 8, equal rows": best_of_equal_rows,
    "gold": gold,
}
# The arms of training seeds other than the first.
CORE = (
    *("search, verified", "best of 8, equal FLOPs", "samples, verified (STaR)"),
    *("null arm, verified", "null arm"),
)


def pairs(made: Sources) -> list[Row]:
    """The search traces that changed the response and raised its reward, for DPO."""
    return [
        row
        for row in made["search"].rows
        if row.tokens != row.base and row.stops and (row.reward or 0.0) > (row.base_reward or 0.0)
    ]


def by_prompt(samples: Sequence[Row], size: int = SAMPLES) -> list[list[Row]]:
    """The samples of each prompt, `size` of each, in the order of the prompts."""
    return [list(samples[n : n + size]) for n in range(0, len(samples), size)]


def best(samples: Sequence[Row]) -> Row:
    """The sample with the highest reward."""
    return max(samples, key=lambda row: row.reward or 0.0)


def _of(source: Source, rows: Iterable[Row]) -> DataSet:
    return DataSet(rows=_stopping(rows), flops=source.flops)


def _stopping(rows: Iterable[Row]) -> list[Row]:
    """A response that was cut off teaches nobody to stop."""
    return [row for row in rows if row.stops]
