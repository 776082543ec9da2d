"""A dry run of `generate`: what it would do, without a model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from nabla_core.types import Prompt
from pipeline.generate.config import GenerateConfig
from pipeline.generate.job import plan
from pipeline.inputs.prompts import index, read
from pipeline.run.models import render
from pipeline.run.plan import open_store
from pipeline.store.checks.owner import check_owner
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.store.slots import DEAD, FINISHED


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a run would do.

    `prompts` and `rows` count what the input asks for, `finished` and `dead` what the run folder
    holds of it. `rendered` is the `first` prompt as the LM would read it.
    """

    prompts: int
    rows: int
    finished: int
    dead: int
    first: Prompt
    rendered: str


def preview(config: GenerateConfig) -> Preview:
    """Read all prompts and the run folder, and change nothing. Raises PipelineError."""
    planned = plan(config)
    inputs = index(planned.read(), planned.source)
    # `index` has consumed its iterator, so the prompts are read again up to the first.
    (first,) = islice(read(config.prompts), 1)
    with translate_os_errors(config.run_dir):
        check_owner(open_folder(config.run_dir), planned.owner)
        # `inspect` takes no lease and moves no file: another driver may hold the folder.
        slots = open_store(planned).inspect(inputs, config.samples_per_prompt)
    return Preview(
        prompts=len(inputs),
        rows=len(slots),
        finished=slots.count(FINISHED),
        dead=slots.count(DEAD),
        first=first.prompt,
        rendered=render(first.prompt, config.lm, config.runtime.template_date),
    )
