"""A dry run of `improve`: what its rounds would fail at, and what they would do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from nabla_core.config import Decoding, Majority
from nabla_core.types import Prompt
from pipeline.improve.config import ImproveConfig
from pipeline.improve.ready import OWNER, check, resolved
from pipeline.inputs.prompts import Prompts, read
from pipeline.preview.cost import of_decoding, of_exploration
from pipeline.preview.models import Models, inspect
from pipeline.preview.prompts import MOST, Rendered, render
from pipeline.preview.resources import check_devices
from pipeline.store.checks.config_check import compare_config
from pipeline.store.run_folder import open_folder, translate_os_errors


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of all rounds together, by what makes them. `evaluated` are searched, `answered` are
    greedy; both on evaluation and on validation prompts."""

    searched: int
    sampled: int
    explored: int
    evaluated: int
    answered: int


@dataclass(frozen=True, kw_only=True)
class ImprovePreview:
    """What the rounds would do, and their FLOPs, an estimate without those of training. `rendered`
    is the `first` prompt, None for a scripted LM."""

    first: Prompt
    rendered: Rendered | None
    rows: Rows
    method: str
    flops: float
    warnings: list[str]


def preview(config: ImproveConfig) -> ImprovePreview:
    """Check the rounds and change nothing. Raises PipelineError and ModelError."""
    config, notes = resolved(config)
    check(config)
    with translate_os_errors(config.run_dir):
        compare_config(open_folder(config.run_dir), config, OWNER)
    first = [item.prompt for item in islice(read(config.prompts), MOST)]
    rows = _rows(config)
    warnings, rendered, flops = [*notes], None, 0.0
    searched = config.decoding.nabla if config.decoding.method == "nabla" else None
    rollout = config.decoding.rollout if config.guided else None
    models = inspect(config.lm, config.reward, searched, rollout)
    if models is not None:
        warnings += models.warnings + check_devices(config.cluster, config.runtime.device)
        today, tools = config.runtime.template_date, config.reward.tools
        rendered = render(first, models, config.decoding.max_tokens, today, tools)
        warnings += rendered.warnings
        flops = _flops(config, rows, models, rendered.tokens)
    return ImprovePreview(
        first=first[0],
        rendered=rendered,
        rows=rows,
        method=config.verify.method,
        flops=flops,
        warnings=warnings,
    )


def _rows(config: ImproveConfig) -> Rows:
    rounds, taken = config.rounds, config.rounds * (config.prompts.limit or 0)
    measured, validated = _count(config.eval_prompts), _count(config.training.validation.prompts)
    # Each LM answers greedily; without step distill there is one.
    lms = rounds + 1 if config.takes("distill") else 1
    answers = len(config.judge.temperatures) * config.judge.count if config.takes("judge") else 0
    decoded = taken if config.takes("judge") else 0
    return Rows(
        searched=decoded + (taken if config.takes("search") else 0),
        sampled=taken * (answers + (config.samples.count if config.takes("samples") else 0)),
        explored=(
            taken * len(config.explore.temperatures) if config.takes("counterfactuals") else 0
        ),
        evaluated=(rounds + 1) * measured + rounds * validated * (2 if decoded else 1),
        answered=lms * (measured + validated),
    )


def _count(prompts: Prompts) -> int:
    return sum(1 for _ in read(prompts))


def _flops(config: ImproveConfig, rows: Rows, models: Models, tokens: float) -> float:
    length = config.decoding.max_tokens
    sample = Decoding(method="majority", max_tokens=length, majority=Majority(1))
    greedy = Decoding(method="greedy", max_tokens=length)
    exploration = of_exploration(config.explore, length, models, tokens)
    return (
        (rows.searched + rows.evaluated) * of_decoding(config.decoding, models, tokens).flops
        + rows.sampled * of_decoding(sample, models, tokens).flops
        + rows.answered * of_decoding(greedy, models, tokens).flops
        + rows.explored * exploration.flops
    )
