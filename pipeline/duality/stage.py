"""The stage as a whole: settings in, findings and a report out."""

from __future__ import annotations

import importlib.util
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pipeline.config import to_yaml
from pipeline.duality.continuous import Continuous
from pipeline.duality.embedded import Embedded
from pipeline.duality.findings import Book, Finding, broken, merged, to_parquet
from pipeline.duality.policy import Policy
from pipeline.duality.tokens import Tokens
from pipeline.errors import ConfigError
from pipeline.files import Folder
from pipeline.plan import Watcher

T = TypeVar("T")
# Of the pieces in a run folder: raise it where their meaning changes.
VERSION = 1
PARTS = ("continuous", "tokens", "embedded", "policy")


@dataclass(frozen=True)
class DualityConfig:
    """One run of `jobs.duality`. `parts` are any of continuous, tokens, embedded, policy;
    `seeds` are for continuous and tokens, the first of them for embedded."""

    run_dir: str = "runs/duality"
    parts: tuple[str, ...] = PARTS[:3]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    continuous: Continuous = field(default_factory=Continuous)
    tokens: Tokens = field(default_factory=Tokens)
    embedded: Embedded = field(default_factory=Embedded)
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise ValueError(f"parts: {', '.join(unknown) or 'none'}; known: {', '.join(PARTS)}")
        if not self.seeds:
            raise ValueError("seeds: at least one is needed")
        if "policy" in self.parts:
            self.policy.check()


@dataclass(frozen=True)
class Outcome:
    """What was found, what of the instruments is broken, and what took how long (seconds)."""

    findings: list[Finding]
    broken: list[Finding]
    seconds: dict[str, float]


def run(config: DualityConfig, watcher: Watcher, say: Callable[[str], None]) -> Outcome:
    """Run the parts, write results.parquet, report.md, report.html and the plots.

    Raises PipelineError on bad input.
    """
    from pipeline.duality.report import write  # noqa: PLC0415 - the `report` extra

    _need(config)
    folder = Folder(config.run_dir)
    kept = Kept(folder, say)
    books: list[Book] = []
    seconds: dict[str, float] = {}
    for part in config.parts:
        say(f"part {part}")
        started = time.perf_counter()
        books.append(_part(part, config, kept, watcher))
        seconds[part] = time.perf_counter() - started
        say(f"part {part}: {len(books[-1].findings)} findings in {seconds[part]:.0f} s")
    findings = [f for book in books for f in book.findings]
    folder.write("duality.yaml", to_yaml(config).encode())
    folder.write("results.parquet", to_parquet(findings))
    write(folder, books, seconds)
    return Outcome(findings, broken(findings), seconds)


def _part(part: str, config: DualityConfig, kept: Kept, watcher: Watcher) -> Book:
    from pipeline.duality import continuous, embedded, policy, tokens  # noqa: PLC0415

    seeds, first = config.seeds, config.seeds[0]
    if part == "continuous":
        shape = (config.continuous, seeds)
        books = [kept.get("continuous", shape, lambda: continuous.exact(config.continuous))]
        for seed in seeds:
            make = partial(continuous.sampled, config.continuous, seed, seeds)
            books.append(kept.get(f"continuous-{seed}", shape, make))
        return merged(books)
    if part == "tokens":
        shapes = (config.tokens, seeds)
        worlds = [
            kept.get(f"tokens-{seed}", shapes, partial(tokens.in_world, config.tokens, seed, seeds))
            for seed in seeds
        ]
        return merged(worlds)
    if part == "embedded":
        asked = config.embedded

        def trained(beta: float) -> Any:
            shape = (asked.rloo, first, beta)
            return kept.get(f"rloo-{beta:g}", shape, lambda: embedded.train(asked, beta, first))

        make = partial(embedded.run, asked, first, trained)
        return kept.get("embedded", (asked, first), make)
    return policy.run(config.policy, config.run_dir, first, watcher)


@dataclass(frozen=True)
class Kept:
    """Pieces of the stage, kept in the run folder as they are finished: the same command goes
    on from there, and parts run one by one add up to one report. A piece made with other
    settings is made anew."""

    folder: Folder
    say: Callable[[str], None]

    def get(self, name: str, shape: Any, make: Callable[[], T]) -> T:
        """The piece of that name, made now if need be. `shape`: what it depends on."""
        file, mark = f"pieces/{name}.pickle", repr((shape, VERSION))
        if self.folder.exists(file):
            found_mark, piece, seconds = pickle.loads(self.folder.read(file))
            if found_mark == mark:
                self.say(f"  {name}: kept from before ({seconds:.0f} s)")
                return piece
        started = time.process_time()
        made = make()
        seconds = time.process_time() - started
        self.folder.write(file, pickle.dumps((mark, made, seconds)))
        self.say(f"  {name}: {seconds:.0f} s of CPU")
        return made


def _need(config: DualityConfig) -> None:
    trains = "tokens" in config.parts and config.tokens.grpo_seeds > 0
    if trains and importlib.util.find_spec("trl") is None:
        raise ConfigError(
            "GRPO needs TRL: pip install 'nabla-pipeline[train]', or set tokens.grpo_seeds=0"
        )
