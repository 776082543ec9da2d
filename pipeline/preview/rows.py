"""A dry run of a job that makes rows of prompts: all checks, then what the run would do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from nabla_core.config import Decoding, NablaConfig, Sampling
from nabla_core.models.location import check_locations
from nabla_core.types import Prompt
from pipeline.inputs.prompts import Item, index, mapped_columns, read
from pipeline.preview.cards import CARDS, DEFAULT_CARD, DEFAULT_SHARE
from pipeline.preview.cost import Expected
from pipeline.preview.hours import seconds
from pipeline.preview.memory import Memory, memory
from pipeline.preview.models import Models, inspect, quick
from pipeline.preview.prompts import MOST, Rendered, render
from pipeline.preview.resources import check_devices
from pipeline.run.config import RowsConfig
from pipeline.run.models import is_scripted
from pipeline.run.plan import Plan, open_store
from pipeline.store.checks.config_check import compare_config
from pipeline.store.checks.models_check import compare_models
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.store.slots import DEAD, FINISHED, Slots


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a run would do.

    `prompts` and `rows` count what the input asks for, `finished` and `dead` what the run folder
    holds of it; `answers` is the number of prompts with an expected answer, which `method` grades.
    `columns` names the columns of the input by what they hold. `rendered`, `expected` (of one row)
    and `parameters` (of all models of an actor) are None for a scripted LM. `dtype` is the type of
    the models, never `auto`. `held` is the memory of an actor, and `seconds` what a row takes on a
    GPU of the default kind (`preview.hours`), where `decoding` answers the prompts.
    """

    prompts: int
    samples: int
    rows: int
    finished: int
    dead: int
    answers: int
    method: str
    columns: Mapping[str, str] | None
    first: Prompt
    rendered: Rendered | None
    expected: Expected | None
    parameters: int | None
    dtype: str
    held: Memory | None = None
    seconds: float | None = None
    warnings: list[str] = field(default_factory=list)


def preview(
    plan: Plan,
    config: RowsConfig,
    *,
    max_tokens: int,
    search: NablaConfig | None,
    rollout: Sampling,
    expected: Callable[[Models, float], Expected],
    decoding: Decoding | None = None,
) -> Preview:
    """Check a run, read all of its prompts and its folder, and change nothing.

    `config` is the plan's. `search` is the loop that the guide must serve, if there is one, and
    `rollout` how responses or tails are drawn; `expected` gives the cost of a row from the models
    and the mean length of a prompt; `decoding` is the method that answers them, if one does. Raises
    PipelineError and ModelError where the run would fail.
    """
    if not plan.cluster.ray_address:
        check_locations(plan.model_paths)
    answers = _Answers()
    inputs = index(answers.counted(plan.read()), plan.source)
    # `index` has consumed its iterator, so the first prompts are read again.
    first = [item.prompt for item in islice(read(config.prompts), MOST)]
    with translate_os_errors(plan.run_dir):
        store = open_store(plan)
        compare_config(store.folder, plan.config, plan.owner, has_rows=store.has_rows)
        # `inspect` takes no lease and moves no file: another driver may hold the folder.
        slots = store.inspect(inputs, plan.samples)
        if not plan.allow_input_change:
            store.refuse_changes(slots)
        unread = _compare_models(plan, slots)
    warnings = [*plan.notes, *unread]
    models = inspect(config.lm, config.reward, search, rollout)
    rendered = None
    if not is_scripted(config.lm):
        warnings += check_devices(plan.cluster, config.runtime.device)
    if models is not None:
        today, tools = config.runtime.template_date, config.reward.tools
        rendered = render(first, models, max_tokens, today, tools)
        warnings += models.warnings + rendered.warnings
    cost = expected(models, rendered.tokens) if models and rendered else None
    held = taken = None
    if models and rendered and cost and decoding:
        held, taken = _resources(config, decoding, models, cost, rendered.tokens)
    return Preview(
        prompts=len(inputs),
        samples=plan.samples,
        rows=len(slots),
        finished=slots.count(FINISHED),
        dead=slots.count(DEAD),
        answers=answers.count,
        method=config.verify.method,
        columns=mapped_columns(config.prompts),
        first=first[0],
        rendered=rendered,
        expected=cost,
        parameters=models.parameters if models else None,
        dtype=config.runtime.dtype,
        held=held,
        seconds=taken,
        warnings=warnings,
    )


def _resources(
    config: RowsConfig, decoding: Decoding, models: Models, cost: Expected, prompt: float
) -> tuple[Memory, float]:
    """The memory of an actor, and the seconds of a row on the default card."""
    itemsize = 2 if config.runtime.dtype == "bfloat16" else 4
    held = memory(
        decoding,
        models,
        config.runtime,
        in_flight=config.cluster.in_flight,
        prompt=prompt,
        itemsize=itemsize,
    )
    card, share = CARDS[DEFAULT_CARD], DEFAULT_SHARE
    taken = seconds(
        cost, decoding, models, held, card, share=share, prompt=prompt, itemsize=itemsize
    )
    return held, taken


@dataclass
class _Answers:
    """Counts the prompts with an expected answer while they are read."""

    count: int = 0

    def counted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self.count += item.prompt.answer is not None
            yield item


def _compare_models(plan: Plan, slots: Slots) -> list[str]:
    """Raises ResumeError where the folder has rows of other models. Large ones are not read."""
    if not slots.files:
        return []
    large = [path for path in plan.model_paths.values() if not quick(path)]
    if large:
        return [f"not compared with those of the rows in {plan.run_dir}: {', '.join(large)}"]
    compare_models(open_folder(plan.run_dir), plan.recipe.models())
    return []
