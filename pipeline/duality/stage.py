"""The stage as a whole: settings in, findings and a report out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pipeline.config import to_yaml
from pipeline.duality.checkpoints.config import Policy
from pipeline.duality.continuous.part import Continuous
from pipeline.duality.findings import Book, Finding, broken, merged, to_parquet
from pipeline.duality.language.part import Embedded
from pipeline.duality.pieces import Kept, Piece
from pipeline.duality.tokens.part import Tokens
from pipeline.extras import require
from pipeline.run.plan import Watcher
from pipeline.store.run_folder import open_folder, translate_os_errors

PARTS = ("continuous", "tokens", "embedded", "policy")


@dataclass(frozen=True)
class DualityConfig:
    """One run of `jobs.duality`. `parts` are any of continuous, tokens, embedded, policy;
    RL on the embedded LM and part policy
    use the first of the seeds. `processes` work on pieces side by side."""

    run_dir: str = "runs/duality"
    parts: tuple[str, ...] = PARTS[:3]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    processes: int = 2
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
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} has one twice")
        if self.processes < 1:
            raise ValueError(f"processes must be at least 1, got {self.processes}")
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
    _need(config)
    from pipeline.duality.report.report import write  # noqa: PLC0415 - the `report` extra

    folder = open_folder(config.run_dir)
    kept = Kept(folder, config.processes, say)
    books: list[Book] = []
    seconds: dict[str, float] = {}
    with translate_os_errors(config.run_dir):
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
    from pipeline.duality.checkpoints import part as policy  # noqa: PLC0415

    if part == "policy":
        return policy.run(config.policy, config.run_dir, config.seeds[0], watcher)
    if part == "embedded":
        return merged(kept.all(measurements(config, kept.all(trainings(config)))))
    return merged(kept.all(pieces(part, config)))


def pieces(part: str, config: DualityConfig) -> list[Piece]:
    """What parts continuous and tokens are made of; each gives a Book."""
    from pipeline.duality.continuous import part as continuous  # noqa: PLC0415
    from pipeline.duality.tokens import part as tokens  # noqa: PLC0415

    seeds = config.seeds
    if part == "continuous":
        line = config.continuous
        found = [Piece("continuous", line, partial(continuous.exact, line))]
        for seed in seeds:
            make = partial(continuous.sampled, line, seed, len(seeds))
            found.append(Piece(f"continuous-{seed}", (line, len(seeds)), make))
        return found
    asked = config.tokens
    return [
        Piece(f"tokens-{name}-{seed}", asked, partial(make, asked, seed))
        for name, make in tokens.PIECES.items()
        for seed in seeds
        if name != "grpo" or asked.grpo
    ]


def trainings(config: DualityConfig) -> list[Piece]:
    """RL policies from the embedded LM, one a beta; each gives weights."""
    from pipeline.duality.language import part as embedded  # noqa: PLC0415

    asked, first = config.embedded.rloo, config.seeds[0]
    return [
        Piece(f"rloo-{beta:g}", (asked, first), partial(embedded.train, asked, beta, first))
        for beta in config.embedded.betas
    ]


def measurements(config: DualityConfig, trained: list[Any]) -> list[Piece]:
    """Part embedded on each seed's prompts; each gives a Book."""
    from pipeline.duality.language import part as embedded  # noqa: PLC0415

    asked, first = config.embedded, config.seeds[0]
    return [
        Piece(
            f"embedded-{seed}",
            (asked, first),
            partial(embedded.run, asked, seed, trained),
        )
        for seed in config.seeds
    ]


def _need(config: DualityConfig) -> None:
    trains = "tokens" in config.parts and config.tokens.grpo
    if trains:
        require("trl", "train", "tokens.grpo=true", "tokens.grpo=false")
    for package in ("matplotlib", "jinja2"):
        require(package, "report", "the report")
