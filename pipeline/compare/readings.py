"""What is read of an arm's responses once they are made: how far the arm is from the reference LM,
what a second judge says, and whether the responses on the way to the last one were right.

A reading belongs to the rows that it was made of, and to the models that read: its file holds a
digest of both, and is made again where they differ. See `nabla_core.engines.divergence` for KL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nabla_core.config import Decoding, Sampling
from nabla_core.embedded.weights import model_location
from nabla_core.model_config import LM
from nabla_core.models.identity import identify_unloaded
from pipeline.generate.config import GenerateConfig
from pipeline.store.files import Folder
from pipeline.store.final import SUCCESS

# How an arm's responses come to be: drawn token by token from a law that is known, the only one
# that the arm gives to a prompt, or found by a search that draws.
Kind = Literal["sampled", "one response", "search"]
KEY = b"nabla_reading"
READINGS = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        # In nats, see `nabla_core.requests.Divergence`.
        ("log_reference", pa.float64()),
        ("log_policy", pa.float64()),
        ("kl", pa.float64()),
        ("second_reward", pa.float64()),
        # Grades of the first response and of that after each accepted revision.
        ("stages", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ReadingTask:
    """What is to be read of an arm: the rows in `run_dir`, whose config is `config`. The result is
    `file` in `folder`. `reference`: the LM that KL is taken to; `kl_samples`: of so many responses
    to each prompt. `second_judge` None: no other judge."""

    name: str
    run_dir: str
    config: GenerateConfig
    reference: LM
    kl_samples: int
    second_judge: str | None
    folder: str
    file: str

    @property
    def kind(self) -> Kind:
        return kind_of(self.config.decoding)

    def key(self) -> str:
        """The digest of what the reading depends on."""
        config, judge = self.config, self.second_judge
        identity = identify_unloaded(model_location(judge, "judge"), None) if judge else None
        parts: list[Any] = [
            Folder(self.run_dir).read(SUCCESS).decode(),
            *(asdict(part) for part in (config.lm, config.reward, config.decoding, config.verify)),
            asdict(self.reference),
            self.kl_samples,
            None if identity is None else asdict(identity),
        ]
        return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def finished(self) -> bool:
        """Whether the file is there, and of these rows and models."""
        folder = Folder(self.folder)
        if not folder.exists(self.file):
            return False
        with folder.fs.open_input_file(folder.path(self.file)) as source:
            metadata = pq.read_schema(source).metadata or {}
        return metadata.get(KEY) == self.key().encode()


@dataclass(frozen=True, kw_only=True)
class ReadRow:
    """A row of a reading."""

    log_reference: float | None
    log_policy: float | None
    kl: float | None
    second_reward: float | None
    stages: Sequence[bool] | None


def kind_of(decoding: Decoding) -> Kind:
    """How the responses of a method come to be."""
    if decoding.method in ("greedy", "sample", "guided"):
        return "sampled" if decoding.rollout.temperature else "one response"
    draws = [decoding.rollout]
    if decoding.method == "nabla" and decoding.nabla.proposals == "left_to_right":
        draws.append(decoding.nabla.resample)
    greedy = all(sampling.temperature == 0 for sampling in draws)
    # A random token is drawn from a key: as good as random.
    random = decoding.method == "nabla" and decoding.nabla.proposals == "random"
    return "one response" if greedy and not random else "search"


def sampled_law(decoding: Decoding) -> Sampling | None:
    """The law that responses are drawn from, where it is known token by token."""
    return decoding.rollout if kind_of(decoding) == "sampled" else None


def write_reading(task: ReadingTask, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of a reading, whole or not at all."""
    table = pa.Table.from_pylist(
        list(rows), schema=READINGS.with_metadata({KEY: task.key().encode()})
    )
    with Folder(task.folder).writing(task.file) as sink:
        pq.write_table(table, sink)


def read_reading(folder: Folder, file: str) -> Iterator[tuple[tuple[str, int], ReadRow]]:
    """The rows of a reading by prompt and sample."""
    with folder.fs.open_input_file(folder.path(file)) as source:
        for row in pq.read_table(source).to_pylist():
            key = row.pop("prompt_id"), row.pop("sample")
            yield key, ReadRow(**row)


def stages_of(row: Mapping[str, Any]) -> list[tuple[int, ...]] | None:
    """The first response of a trace and that after each accepted revision, as tokens. None where
    their tokens were not kept, or do not lead to the last response."""
    if row["base_token_ids"] is None:
        return None
    stages = [tuple(row["base_token_ids"])]
    for revision in row["revisions"]:
        if revision["accepted"]:
            if revision["tail_token_ids"] is None:
                return None
            before = stages[-1][: revision["position"]]
            stages.append((*before, *revision["tail_token_ids"]))
    return stages if stages[-1] == tuple(row["response_token_ids"]) else None
