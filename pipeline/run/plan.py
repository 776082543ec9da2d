"""What a run is to do, who follows it, and how it ended. Does not import ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from pipeline.cluster.config import Cluster
from pipeline.grading.graders import Verify, check_expected
from pipeline.inputs.prompts import Item, read
from pipeline.inputs.repeats import Repeats
from pipeline.run.budget import Budget
from pipeline.run.config import RowsConfig
from pipeline.run.dtype import resolve_runtime
from pipeline.run.models import model_paths
from pipeline.run.prompt_status import PromptStatus
from pipeline.run.recipe import Recipe
from pipeline.run.verify_method import resolve, with_verify
from pipeline.store.checks import config_check
from pipeline.store.checks.owner import Owner
from pipeline.store.parts import KIND, with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store

C = TypeVar("C", bound=RowsConfig)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a run needs. Each call of `read()` reads the input from its start. `job` is
    the verb of the command.

    `config` is the job's whole config, a dataclass. A resume must share those of its settings
    that shape rows (see `store.checks.config_check`). `model_paths` are the places of the models by
    the key that names them; on a Ray of this machine all of them are here. `notes` are for the
    person who starts the run.
    """

    job: str
    run_dir: str
    source: str
    read: Callable[[], Iterable[Item]]
    samples: int
    recipe: Recipe
    config: Any
    cluster: Cluster
    store: Store
    max_attempts: int
    max_dead_fraction: float
    allow_input_change: bool
    retry_dead: bool
    model_paths: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    budget: Budget = field(default_factory=Budget)

    @property
    def config_hash(self) -> str:
        """Digest of the settings that shape rows."""
        return config_check.digest(self.config)

    @property
    def owner(self) -> Owner:
        """The job, and the kind of rows that it makes."""
        return Owner(self.job, self.recipe.schema.metadata[KIND].decode())


def planned(
    job: str,
    config: C,
    recipe: Callable[[C, str], Recipe],
    *,
    samples: int,
    retry_dead: bool = False,
) -> Plan:
    """The plan of a job. `recipe` gets the config and the digest of its settings that shape rows.

    Reads nothing yet, unless `verify.method` is to be found (`verify_method.resolve`). A
    `runtime.dtype: auto` is decided here (`run.dtype`).
    """
    verify, notes = resolve(config.verify, config.run_dir, config.prompts)
    config = with_verify(config, verify)
    paths = model_paths(config.lm, config.reward)
    runtime, more = resolve_runtime(
        config.runtime,
        config.run_dir,
        paths.values(),
        gpus=config.cluster.gpus_per_actor,
        cluster=bool(config.cluster.ray_address),
    )
    config = replace(config, runtime=runtime)
    repeats = Repeats()
    return Plan(
        job=job,
        run_dir=config.run_dir,
        source=config.prompts.path,
        read=lambda: gradable(read(config.prompts, repeats), config.verify),
        samples=samples,
        recipe=recipe(config, config_check.digest(config)),
        config=config,
        cluster=config.cluster,
        store=config.store,
        max_attempts=config.max_attempts,
        max_dead_fraction=config.max_dead_fraction,
        allow_input_change=config.allow_input_change,
        retry_dead=retry_dead,
        model_paths=paths,
        notes=[*notes, *more],
        budget=config.budget,
    )


def gradable(items: Iterable[Item], verify: Verify) -> Iterator[Item]:
    """The prompts. Raises InputError at one whose expected answer cannot be graded against."""
    for item in items:
        check_expected(item.prompt, verify)
        yield item


def open_store(plan: Plan) -> RunStore:
    """The store of a plan's run folder. Raises StoreError."""
    return RunStore(plan.run_dir, with_config(plan.recipe.schema, plan.config_hash), plan.store)


class Watcher(Protocol):
    """Follows a run: its methods are called with the progress that the driver sees."""

    def started(self, total: int, finished: int, dead: int) -> None:
        """The folder is open. It will hold `total` rows, and holds so many finished and dead."""

    def on_status(self, status: PromptStatus) -> None:
        """A task of a prompt ended."""

    def phase(self, text: str) -> None:
        """The run enters another phase."""

    def note(self, text: str) -> None:
        """A message for the person who started the run."""


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended. `totals` are the recipe's. `aborted`: the run ended early because too many
    prompts became dead letters. `already_complete`: no row was missing. `budget`: the limit that
    was reached before all rows were made, as a setting."""

    total: int
    finished: int
    dead: int
    totals: dict[str, Any]
    aborted: bool = False
    already_complete: bool = False
    budget: str | None = None
