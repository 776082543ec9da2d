"""The figures of rounds of `nabla improve`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from jobs.display import console
from pipeline.tables.flop_unit import flop_unit

if TYPE_CHECKING:
    from pipeline.improve.job import ImproveResult
    from pipeline.improve.rounds import Round
    from pipeline.improve.yielded import Yielded
    from pipeline.intervals import Interval

STOPPED = {
    "reward_hacked": "the judge's reward rose and accuracy fell, so the rounds end: the search "
    "exploits errors of the judge",
    "nothing_of_use": "judge and guide are of no use to the LM, and no step makes other data, so "
    "the rounds end",
}


def print_rounds(improved: ImproveResult) -> None:
    """The table of rounds, that of yields, what is not used further, and why the rounds ended."""
    console.print_table(rounds_table(improved))
    if any(round_.yields for round_ in improved.rounds):
        console.print_table(yields_table(improved))
    for sentence in unused(improved):
        console.print_line(sentence)
    if improved.stop_reason in STOPPED:
        console.print_line(f"round {improved.rounds[-1].number}: {STOPPED[improved.stop_reason]}")


def rounds_table(improved: ImproveResult) -> Table:
    """A row for each round: the LM alone, the search with judge and guide, what was trained."""
    table = Table(
        *("round", "LM alone", "gained", "search", "over the LM", "reward", "gained", "calls"),
        *("top-1", "trained on", "not used"),
    )
    for round_ in improved.rounds:
        own = round_.greedy
        table.add_row(
            _name(round_),
            _share(own.accuracy if own else None),
            _gain(round_.greedy_gain),
            _share(round_.accuracy),
            _gain(round_.search_gain),
            f"{round_.reward:.4f}",
            _gain(round_.reward_gain),
            f"{round_.calls:.1f}",
            "" if round_.top1 is None else f"{round_.top1:.3f}",
            _data(round_),
            ", ".join(name for name, use in round_.used.items() if not use.used),
        )
    return table


def yields_table(improved: ImproveResult) -> Table:
    """A row for each way to generate of each round, beside plain samples at the same FLOPs."""
    ways = (found for round_ in improved.rounds for found in round_.yields.values())
    unit, factor = flop_unit(found.right_per_gflop for found in ways)
    table = Table(
        *("round", "way", "right", "of hard ones", "MFLOP", f"right / {unit}"),
        *("plain samples", "right", "of hard ones", "MFLOP"),
    )
    for round_ in improved.rounds:
        for name, found in round_.yields.items():
            table.add_row(f"{round_.number}", name, *_yield(found, factor))
    return table


def unused(improved: ImproveResult) -> Iterator[str]:
    """A sentence on each model that is not used further."""
    for round_ in improved.rounds:
        for name, use in round_.used.items():
            if not use.used:
                yield f"round {round_.number}: the {name} is not used further: {use.reason}"


def _name(round_: Round) -> str:
    if round_.number:
        return f"{round_.number}"
    return "0" if round_.guide else "0 (judge as guide)"


def _data(round_: Round) -> str:
    rows = f"{round_.distilled:,} traces" if round_.distilled else ""
    changes = f"{round_.counterfactuals:,} counterfactuals" if round_.counterfactuals else ""
    return ", ".join(part for part in (rows, changes) if part)


def _yield(found: Yielded, factor: float) -> Iterator[str]:
    yield _share(found.right)
    yield _share(found.right_on_hard)
    yield f"{found.mflop:,.1f}"
    yield f"{found.right_per_gflop * factor:,.2f}"
    yield "" if found.plain_samples is None else f"pass@{found.plain_samples}"
    yield _share(found.plain_right)
    yield _share(found.plain_right_on_hard)
    yield "" if found.plain_mflop is None else f"{found.plain_mflop:,.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _gain(gain: Interval | None) -> str:
    return "" if gain is None else f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
