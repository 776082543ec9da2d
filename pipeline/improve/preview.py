"""A dry run of `improve`: what its rounds would fail at, and what they would do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from nabla_core.types import Prompt
from pipeline.improve.config import ImproveConfig
from pipeline.improve.ready import OWNER, check, resolved
from pipeline.inputs.prompts import read
from pipeline.preview.cost import of_decoding, of_exploration
from pipeline.preview.models import inspect
from pipeline.preview.prompts import MOST, Rendered, render
from pipeline.preview.resources import check_devices
from pipeline.store.checks.config_check import compare_config
from pipeline.store.run_folder import open_folder, translate_os_errors


@dataclass(frozen=True, kw_only=True)
class ImprovePreview:
    """What the rounds would do: rows of search, exploration and evaluation in all rounds together,
    and their FLOPs, an estimate without those of training. `rendered` is the `first` prompt, None
    for a scripted LM."""

    first: Prompt
    rendered: Rendered | None
    searched: int
    explored: int
    evaluated: int
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
    searched = config.rounds * (config.prompts.limit or 0)
    explored = searched * len(config.explore.temperatures)
    evaluated = (config.rounds + 1) * sum(1 for _ in read(config.eval_prompts))
    warnings, rendered, flops = [*notes], None, 0.0
    models = inspect(config.lm, config.reward)
    if models is not None:
        warnings += models.warnings + check_devices(config.cluster, config.runtime.device)
        rendered = render(first, models, config.decoding.max_tokens, config.runtime.template_date)
        warnings += rendered.warnings
        row = of_decoding(config.decoding, models, rendered.tokens)
        place = of_exploration(config.explore, config.decoding.max_tokens, models, rendered.tokens)
        flops = (searched + evaluated) * row.flops + explored * place.flops
    return ImprovePreview(
        first=first[0],
        rendered=rendered,
        searched=searched,
        explored=explored,
        evaluated=evaluated,
        method=config.verify.method,
        flops=flops,
        warnings=warnings,
    )
