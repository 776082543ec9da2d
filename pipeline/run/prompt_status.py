"""What a worker reports of each prompt it was given. Imports neither ray nor torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

# Prompt id and sample number: the key of a row.
Key = tuple[str, int]


class PromptState(StrEnum):
    """How a prompt ended in one task of the pool."""

    DONE = "done"
    """Its row is committed."""
    DEAD = "dead"
    """It failed, and its dead letter is committed."""
    ALREADY_COMMITTED = "already_committed"
    """Its row was committed by an earlier task whose report was lost."""
    DEFERRED = "deferred"
    """It is a suspect and runs isolated in a later round (see `ledger`)."""
    STOPPED = "stopped"
    """The run is being stopped."""
    LOAD_FAILED = "load_failed"
    """The worker cannot load its models."""
    COMMIT_FAILED = "commit_failed"
    """The worker cannot write to the store."""


# The prompts that need no further round.
ENDED = (PromptState.DONE, PromptState.DEAD, PromptState.ALREADY_COMMITTED)


@dataclass(frozen=True)
class PromptStatus:
    """How one prompt ended. `detail`: numbers of the row as JSON where it is done, else the
    reason."""

    key: Key
    state: PromptState
    detail: str = ""


def to_table(statuses: Sequence[PromptStatus]) -> pa.Table:
    """The statuses as a table that Ray Data can carry."""
    return pa.table(
        {
            "prompt_id": [status.key[0] for status in statuses],
            "sample": [status.key[1] for status in statuses],
            "state": [status.state.value for status in statuses],
            "detail": [status.detail for status in statuses],
        }
    )


def from_table(table: pa.Table) -> Iterator[PromptStatus]:
    """The statuses of a table that `to_table` made."""
    for row in table.to_pylist():
        key = (row["prompt_id"], row["sample"])
        yield PromptStatus(key, PromptState(row["state"]), row["detail"])
