"""A dry run on the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.display import console
from pipeline.printable import visible

if TYPE_CHECKING:
    from nabla_core.types import Prompt
    from pipeline.preview.cards import Card
    from pipeline.preview.memory import Memory
    from pipeline.preview.prompts import Rendered
    from pipeline.preview.rows import Preview

_UNITS = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP")


def print_preview(found: Preview, run_dir: str, *, each: str = "sample") -> None:
    """What a run of rows would do, in the order in which a user checks it. `each` is what a prompt
    has several rows for."""
    print_prompt(found.first, found.rendered)
    console.print_line(
        f"rows     {_count(found.prompts, 'prompt')} x {_count(found.samples, each)} = "
        f"{_count(found.rows, 'row')}; "
        f"{found.finished:,} finished and {found.dead:,} dead in {run_dir}"
    )
    print_answers(found.answers, found.prompts, found.method)
    print_columns(found.columns)
    _print_cost(found)
    print_warnings(found.warnings)


def print_answers(answers: int, prompts: int, method: str) -> None:
    """How many prompts have an expected answer, and what grades it."""
    graded = "not graded" if method == "none" else f"graded by verify.method={method}"
    console.print_line(f"answers  {answers:,} of {prompts:,} prompts have one, {graded}")


def print_columns(columns: Mapping[str, str] | None) -> None:
    """Which column of the input holds what."""
    if columns is not None:
        held = ", ".join(f"{role} from {visible(name)}" for role, name in columns.items())
        made = "" if "id" in columns else "; ids are made from the content"
        console.print_line(f"columns  {held}{made}")


def print_warnings(warnings: list[str]) -> None:
    """What a run would put up with, on standard error."""
    for warning in warnings:
        console.print_note(f"note: {visible(warning)}")


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def amount(flops: float) -> str:
    """FLOPs with a prefix: `1.2 TFLOP`."""
    power = 0
    while flops >= 1000 and power < len(_UNITS) - 1:
        flops, power = flops / 1000, power + 1
    return f"{flops:.3g} {_UNITS[power]}"


def print_prompt(first: Prompt, shown: Rendered | None) -> None:
    """A prompt as LM and judge read it; as it is given where there is no model."""
    name = visible(first.id)
    if shown is None:
        console.print_line(f"The first prompt ({name}):\n{console.quoted(first.text)}\n")
        return
    for role, text, tokens in (
        ("LM", shown.lm, shown.lm_tokens),
        ("judge", shown.judge, shown.judge_tokens),
    ):
        if text is None:  # there is no judge
            continue
        console.print_line(
            f"The first prompt ({name}), as the {role} reads it ({tokens} tokens):\n"
            f"{console.quoted(text)}\n"
        )


def _print_cost(found: Preview) -> None:
    cost = found.expected
    if cost is None or found.parameters is None:
        return
    from pipeline.preview.cost import HOW

    missing = found.rows - found.finished - found.dead
    console.print_line(
        f"cost     a row: {cost.rollouts:g} rollouts, {cost.generated_tokens:,.0f} tokens, "
        f"{cost.lm_passes:.3g} LM passes to read and {cost.reward_passes:.3g} of judge and guide, "
        f"{amount(cost.flops)}\n"
        f"         {missing:,} rows to make: {amount(cost.flops * missing)}\n"
        f"         ({HOW})"
    )
    if found.held is None or found.seconds is None:
        print_weights(found.parameters, found.dtype)
        return
    from pipeline.preview.cards import CARDS, DEFAULT_CARD, DEFAULT_SHARE

    print_memory(found.held, found.dtype)
    print_hours(missing, found.seconds, CARDS[DEFAULT_CARD], DEFAULT_SHARE)


def print_memory(held: Memory, dtype: str) -> None:
    """What a process of a run takes."""
    console.print_line(
        f"memory   {bytes_of(held.total)} for each process in {dtype}: weights "
        f"{bytes_of(held.weights)}, keys and values {bytes_of(held.decoding)} of {held.rows} "
        f"responses that are decoded and {bytes_of(held.kept)} kept, activations "
        f"{bytes_of(held.activations)}\n"
        "         (estimated: its tensors. Python, torch and Ray take some 0.8 GB of the host "
        "besides, drivers and allocators more)"
    )


def print_hours(rows: int, taken: float, card: Card, share: float) -> None:
    """What so many rows take on a card, each `taken` seconds."""
    hours = rows * taken / 3600
    console.print_line(
        f"hours    {hours:,.3g} on one {card.name} for {rows:,} rows, at {share:.0%} of "
        f"{card.flops / 1e12:,.0f} TFLOP/s and {card.bandwidth / 1e12:g} TB/s "
        "(from its data sheet and an assumed share: not measured)"
    )


def print_weights(parameters: int, dtype: str) -> None:
    """The memory that the weights of a process take."""
    size = parameters * (2 if dtype == "bfloat16" else 4)
    console.print_line(f"weights  {bytes_of(size)} in {dtype} for each process")


def bytes_of(size: float) -> str:
    """Bytes with a unit: `1.2 GB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
