"""The rows of an arm, prompt by prompt, and the prompts that all arms share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.compare.readings import ReadRow, read_reading
from pipeline.errors import InputError, RunError, StoreError, VersionError
from pipeline.store.checks.version import check_version
from pipeline.store.files import Folder
from pipeline.store.final import SUCCESS
from pipeline.store.reader import check_table, final_files
from pipeline.tables.traces import TRACES

COLUMNS = (
    *("prompt_id", "sample", "input_fingerprint", "error"),
    *("response_token_ids", "reward", "predicted_answer", "correct"),
    *("base_correct", "base_reward", "method", "cost"),
    *(f"revisions.list.element.{name}" for name in ("accepted", "reward_before", "reward_after")),
    "revisions.list.element.spent",
)
COSTS = ("paper_calls", "flops", "generated_tokens", "seconds")
# Those that are known in the middle of a search: the seconds of a batch belong to no prefix.
SPENT = ("paper_calls", "flops", "generated_tokens")


@dataclass(frozen=True, slots=True)
class Step:
    """A proposal of a search: whether it was accepted, the reward of the response that is kept, and
    what the search had cost up to here (None where the row does not tell it)."""

    accepted: bool
    reward: float | None
    spent: Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class Response:
    """One row. `tokens`: its length; `steps`: its proposals; `costs` by name (`COSTS`); `read`:
    what was read of it later, None where nothing was."""

    sample: int
    tokens: int
    reward: float | None
    correct: bool | None
    base_correct: bool | None
    predicted: str | None
    costs: Mapping[str, float]
    steps: Sequence[Step] = ()
    read: ReadRow | None = None

    @property
    def revised(self) -> bool:
        """Whether a revision was accepted."""
        return any(step.accepted for step in self.steps)


@dataclass(kw_only=True)
class Results:
    """What an arm answered: the responses to each prompt in the order of samples, the fingerprint
    of each prompt, and the prompts with a dead letter."""

    name: str
    run_dir: str
    method: str = ""
    responses: dict[str, list[Response]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row with `COLUMNS`."""
        prompt = row["prompt_id"]
        self.fingerprints[prompt] = row["input_fingerprint"]
        self.method = row["method"]
        if row["error"] is not None:
            self.dead.add(prompt)
            return
        self.responses.setdefault(prompt, []).append(
            Response(
                sample=row["sample"],
                tokens=len(row["response_token_ids"]),
                reward=row["reward"],
                correct=row["correct"],
                base_correct=row["base_correct"],
                predicted=row["predicted_answer"],
                costs={name: float(row["cost"][name]) for name in COSTS},
                steps=[_step(revision) for revision in row["revisions"]],
            )
        )

    def attach(self, folder: Folder, file: str) -> None:
        """Add what was read of the responses later."""
        read = dict(read_reading(folder, file))
        for prompt, responses in self.responses.items():
            self.responses[prompt] = [
                replace(response, read=read.get((prompt, response.sample)))
                for response in responses
            ]


def _step(revision: Mapping[str, Any]) -> Step:
    kept = revision["reward_after"] if revision["accepted"] else revision["reward_before"]
    spent = revision["spent"]
    costs = None if spent is None else {name: float(spent[name]) for name in SPENT}
    return Step(revision["accepted"], kept, costs)


def read_results(name: str, run_dir: str) -> Results:
    """The rows of a finished run folder of traces. Raises InputError naming arm and folder."""
    results = Results(name=name, run_dir=run_dir)
    try:
        folder = Folder(run_dir)
        check_version(folder)
        if not folder.exists(SUCCESS):
            raise InputError(f"{name}: {run_dir} is no finished run folder of traces")
        for part in final_files(folder):
            with folder.fs.open_input_file(folder.path(part.name)) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                check_table(file.schema_arrow, TRACES, f"{name}: {run_dir}/{part.name}")
                for batch in file.iter_batches(batch_size=1024, columns=list(COLUMNS)):
                    for row in batch.to_pylist():
                        results.add(row)
    except VersionError as error:
        raise InputError(f"{name}: {error}") from error
    except (OSError, ValueError, ImportError, StoreError, pa.ArrowException) as error:
        raise InputError(f"{name}: cannot read {run_dir}: {error}") from error
    for responses in results.responses.values():
        responses.sort(key=lambda response: response.sample)
    return results


def shared_prompts(arms: Sequence[Results]) -> list[str]:
    """The prompts that every arm has answered, in order of their ids.

    Raises InputError where two arms were given different prompts, and RunError where dead letters
    leave none.
    """
    first = arms[0]
    for other in arms[1:]:
        check_paired(first, other)
    dead = set().union(*(arm.dead for arm in arms))
    prompts = sorted(first.fingerprints.keys() - dead)
    if not prompts:
        raise RunError("nothing to compare: every prompt has a dead letter in some arm")
    return prompts


def check_paired(first: Results, other: Results) -> None:
    """Raises InputError unless both answer the same prompts: a difference would be one of
    prompts."""
    for these, those in ((first, other), (other, first)):
        lacking = sorted(these.fingerprints.keys() - those.fingerprints.keys())
        if lacking:
            raise InputError(
                f"{first.name} and {other.name} answer different prompts, and cannot be compared: "
                f"{len(lacking)} of {these.name} ({lacking[0]!r} for example) are not in "
                f"{those.name} ({those.run_dir})"
            )
    for prompt, fingerprint in first.fingerprints.items():
        if other.fingerprints[prompt] != fingerprint:
            raise InputError(
                f"{first.name} and {other.name} cannot be compared: prompt {prompt!r} has another "
                f"text or answer in {other.name} ({other.run_dir})"
            )
