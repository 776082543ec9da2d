"""The stage as a whole: runs the parts of a config, writes the findings and the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nabla_core.embedded.weights import Role
from nabla_core.embedded.weights import folder as shipped
from nabla_core.models.identity import identify
from nabla_core.types import Identity
from pipeline.config import to_yaml
from pipeline.duality.config import DualityConfig
from pipeline.duality.findings import Finding, PartResults, failed_self_checks, merge, to_parquet
from pipeline.duality.pieces import Piece, PieceCache
from pipeline.extras import require
from pipeline.run.plan import Watcher
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.training.progress import ProgressFile

OWNER, RESULTS = Owner("duality"), "results.parquet"


@dataclass(frozen=True)
class StageResult:
    """All findings, those that show that the stage itself is wrong, and seconds by part."""

    findings: list[Finding]
    failed_self_checks: list[Finding]
    seconds: dict[str, float]


def run(config: DualityConfig, watcher: Watcher, log: Callable[[str], None]) -> StageResult:
    """Run the parts; write results.parquet, report.md, report.html and the plots.

    Raises PipelineError on bad input.
    """
    _require_packages(config)
    # matplotlib and jinja2 come with the optional extra `report`.
    from pipeline.duality.report.report import write  # noqa: PLC0415

    folder = open_folder(config.run_dir)
    parts: list[PartResults] = []
    seconds: dict[str, float] = {}
    with translate_os_errors(config.run_dir):
        claim_owner(folder, OWNER)
        cache = PieceCache(folder, config.processes, log, _shown(folder, config))
        for part in config.parts:
            log(f"part {part}")
            started = time.perf_counter()
            parts.append(_run_part(part, config, cache, watcher))
            seconds[part] = time.perf_counter() - started
            log(f"part {part}: {len(parts[-1].findings)} findings in {seconds[part]:.0f} s")
        findings = [finding for part_results in parts for finding in part_results.findings]
        folder.write("duality.yaml", to_yaml(config).encode())
        folder.write(RESULTS, to_parquet(findings))
        write(folder, parts, seconds)
    return StageResult(findings, failed_self_checks(findings), seconds)


def _shown(folder: Folder, config: DualityConfig) -> Callable[[bool], None]:
    """Keeps `nabla status` informed of each piece."""
    counts = {
        "continuous": lambda: len(continuous_pieces(config)),
        "tokens": lambda: len(token_pieces(config)),
        "language": lambda: len(training_pieces(config)) + len(language_pieces(config, [])),
    }
    total = sum(counts[part]() for part in config.parts if part in counts)
    progress = ProgressFile(folder, 0, total)
    done = 0

    def on_done(reused: bool) -> None:
        nonlocal done
        done += 1
        if reused:
            progress.skipped()
        else:
            progress.took(done)

    return on_done


# The rooms are imported where they are used: they load torch, which `--help` and `--dry-run`
# of the job should not wait for.


def _run_part(part: str, config: DualityConfig, cache: PieceCache, watcher: Watcher) -> PartResults:
    if part == "continuous":
        return merge(cache.compute_all(continuous_pieces(config)))
    if part == "tokens":
        return merge(cache.compute_all(token_pieces(config)))
    if part == "language":
        policies = cache.compute_all(training_pieces(config))
        return merge(cache.compute_all(language_pieces(config, policies)))

    from pipeline.duality.checkpoints import checks as checkpoints  # noqa: PLC0415

    return checkpoints.run(config.checkpoints, config.run_dir, config.seeds[0], watcher)


def continuous_pieces(config: DualityConfig) -> list[Piece]:
    """Part continuous: one piece without random numbers, and one for each seed."""
    from pipeline.duality.continuous import checks as continuous  # noqa: PLC0415

    settings, count = config.continuous, len(config.seeds)
    exact = Piece("continuous", settings, partial(continuous.exact, settings))
    # The number of seeds is an input too: the KS threshold is corrected for it.
    sampled = [
        Piece(
            f"continuous-{seed}",
            (settings, count),
            partial(continuous.sampled, settings, seed, count),
        )
        for seed in config.seeds
    ]
    return [exact, *sampled]


def token_pieces(config: DualityConfig) -> list[Piece]:
    """Part tokens: one piece for each kind of experiment and each seed."""
    from pipeline.duality.tokens import checks as tokens  # noqa: PLC0415

    settings = config.tokens
    return [
        Piece(f"tokens-{name}-{seed}", settings, partial(experiment, settings, seed))
        for name, experiment in tokens.EXPERIMENTS.items()
        for seed in config.seeds
        if name != "grpo" or settings.grpo
    ]


def training_pieces(config: DualityConfig) -> list[Piece]:
    """RL policies trained from the embedded LM, one for each beta; each piece gives weights."""
    from pipeline.duality.language import checks as language  # noqa: PLC0415

    settings, seed = config.language.rloo, config.seeds[0]
    inputs = (settings, seed, _embedded("lm", "judge"))
    return [
        Piece(f"rloo-{beta:g}", inputs, partial(language.train, settings, beta, seed))
        for beta in config.language.betas
    ]


def language_pieces(config: DualityConfig, policies: list[Any]) -> list[Piece]:
    """Part language on the prompts of each seed; `policies` are the trained weights."""
    from pipeline.duality.language import checks as language  # noqa: PLC0415

    settings = config.language
    # The policies are trained with the first seed, so every result depends on it.
    inputs = (settings, config.seeds[0], _embedded("lm", "judge", "guide"))
    return [
        Piece(f"language-{seed}", inputs, partial(language.run, settings, seed, policies))
        for seed in config.seeds
    ]


def _embedded(*roles: Role) -> list[Identity]:
    """The embedded models that a piece loads: with other weights its result is another one."""
    return [identify(str(shipped(role)), None) for role in roles]


def _require_packages(config: DualityConfig) -> None:
    if "tokens" in config.parts and config.tokens.grpo:
        require("trl", "train", "tokens.grpo=true", "tokens.grpo=false")
    for package in ("matplotlib", "jinja2"):
        require(package, "report", "the report")
