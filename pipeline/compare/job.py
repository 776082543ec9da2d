"""The loop of `jobs.compare`: every arm is a run of `nabla generate`, then all are compared.

    run_dir/arms/NAME/...    the run folder of an arm
    run_dir/readings/...     what was read of each arm's responses afterwards
    run_dir/traces.parquet   the rows of all arms, with the column `arm`
    run_dir/summary.json     all figures
    run_dir/comparison.md    the figures as tables
    run_dir/comparison.svg   accuracy (or reward) against each cost
    run_dir/distance.svg     accuracy and reward against KL to the base LM

An arm whose folder is finished is not made again, so the same command continues a comparison, and
adds an arm to one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from nabla_core.errors import ModelError
from pipeline.cluster.connection import shared
from pipeline.compare.arms import Arm, arms_of, stored_config
from pipeline.compare.config import CompareConfig, folder_name
from pipeline.compare.figure import distances_svg, svg
from pipeline.compare.readings import ReadingTask
from pipeline.compare.report import markdown, write_traces
from pipeline.compare.results import Results, check_paired, read_results
from pipeline.compare.summary import Comparison, summarise
from pipeline.compare.training import trained_models
from pipeline.compare.worker import read_all
from pipeline.errors import ConfigError, RunError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.job import generate
from pipeline.generate.plan import plan
from pipeline.preview.models import check_guide
from pipeline.run.models import is_scripted
from pipeline.run.plan import Watcher
from pipeline.store.checks import config_check
from pipeline.store.checks.owner import Owner
from pipeline.store.files import Folder
from pipeline.store.run_folder import open_folder, translate_os_errors

OWNER = Owner("compare")
SUMMARY, MARKDOWN, FIGURE, DISTANCES, TRACES = (
    *("summary.json", "comparison.md"),
    *("comparison.svg", "distance.svg", "traces.parquet"),
)

Watch = Callable[[str], AbstractContextManager[Watcher]]


def compare(config: CompareConfig, watch: Watch) -> Comparison:
    """Make the arms that are missing, and compare all. `watch(name)` is the watcher of an arm.

    Raises PipelineError; before the first arm is made where an arm's settings are refused.
    After KeyboardInterrupt the folder can be resumed.
    """
    checked = check(config)
    arms = [arm for arm, _ in checked]
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        config_check.check_config(folder, config, OWNER, has_rows=lambda: _begun(arms))
        with shared(config.cluster):
            for arm in arms:
                _make(arm, watch)
            # A run that joins was read to check it.
            results = [
                asked if arm.config is None else read_results(arm.name, arm.run_dir)
                for arm, asked in checked
            ]
            made = {arm.name: stored_config(arm.name, arm.run_dir) for arm in results}
            readings = _read(config, results, made, folder, watch)
        models = {
            arm.name: trained_models(arm.run_dir, made[arm.name], config.lm) for arm in results
        }
        found = summarise(results, config.reference, config.bootstrap, readings, models)
        write_traces(folder, TRACES, results)
        folder.write(FIGURE, svg(found))
        folder.write(DISTANCES, distances_svg(found))
        folder.write(MARKDOWN, markdown(found).encode())
        # The last one: what has a summary is whole.
        folder.write(SUMMARY, json.dumps(found.as_dict(), indent=2).encode())
    return found


def _read(
    config: CompareConfig,
    results: Sequence[Results],
    made: Mapping[str, GenerateConfig],
    folder: Folder,
    watch: Watch,
) -> dict[str, ReadingTask]:
    """Read the responses of the arms, `made` with these configs, and add that to their results.
    Nothing is read of an LM that is a script."""
    tasks = {}
    for arm in results:
        if not is_scripted(made[arm.name].lm):
            tasks[arm.name] = ReadingTask(
                name=arm.name,
                run_dir=arm.run_dir,
                config=made[arm.name],
                reference=config.lm,
                kl_samples=config.kl_samples,
                second_judge=config.second_judge,
                folder=config.run_dir,
                file=f"readings/{folder_name(arm.name)}.parquet",
            )
    with watch("readings") as watcher:
        read_all(list(tasks.values()), config.cluster, watcher.note)
    for arm in results:
        if arm.name in tasks:
            arm.attach(folder, tasks[arm.name].file)
    return tasks


def check(config: CompareConfig) -> list[tuple[Arm, Results]]:
    """The arms, each with its prompts; a run that joins with its responses too.

    Raises ConfigError at an arm that `nabla generate` would refuse, by its settings or because its
    guide is of another LM, and InputError at a run folder that is none and at arms of different
    prompts, which a comparison would otherwise find out hours later.
    """
    checked = [(arm, _asked(arm)) for arm in arms_of(config)]
    for arm, _ in checked:
        _check_guide(arm)
    for _, other in checked[1:]:
        check_paired(checked[0][1], other)
    return checked


def _asked(arm: Arm) -> Results:
    """The prompts of an arm, without responses."""
    if arm.config is None:
        return read_results(arm.name, arm.run_dir)
    prompts = {item.prompt.id: item.fingerprint for item in plan(arm.config).read()}
    return Results(name=arm.name, run_dir=arm.run_dir, fingerprints=prompts)


def _check_guide(arm: Arm) -> None:
    """Raises ConfigError where the guide of an arm is of another LM: an arm that changes the LM has
    the guide of the base, which its run would refuse when all arms before it are made."""
    if arm.config is None:
        return
    try:
        check_guide(arm.config.lm, arm.config.reward)
    except ModelError as error:
        raise ConfigError(
            f"arms.{arm.name}: {error}; an arm that needs no guide has "
            f"arms.{arm.name}.reward.guide=null"
        ) from error


def _make(arm: Arm, watch: Watch) -> None:
    if arm.config is None:
        return
    with watch(arm.name) as watcher:
        outcome = generate(arm.config, watcher)
    if outcome.budget:
        raise RunError(f"{arm.name}: stopped at {outcome.budget}; a larger one continues")
    if outcome.aborted or not outcome.finished:
        raise RunError(
            f"{arm.name}: too many dead letters to continue; `nabla status {arm.run_dir}` counts "
            "them"
        )


def _begun(arms: list[Arm]) -> bool:
    """Whether an arm of this folder has begun: until then its settings may change."""
    own = (arm for arm in arms if arm.config is not None)
    return any(Folder(arm.run_dir).exists(config_check.CONFIG) for arm in own)
