"""A comparison as Markdown, and all of its traces in one table.

The figures stand in `summary.json`; this is for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.compare.break_even import BreakEven
from pipeline.compare.results import Results
from pipeline.compare.summary import ArmFigures, Comparison
from pipeline.intervals import Interval
from pipeline.store.files import Folder
from pipeline.store.reader import final_files
from pipeline.tables.flop_unit import flop_unit
from pipeline.tables.traces import TRACES
from pipeline.training.cost import TrainingCost

ARM = pa.field("arm", pa.string(), nullable=False)
TABLE = pa.schema([ARM, *TRACES], metadata={"nabla_schema": "comparison/1"})
_ROWS = 4096


def write_traces(folder: Folder, name: str, arms: Sequence[Results]) -> None:
    """The rows of every arm, dead letters too, with the column `arm`, in one Parquet file."""
    with (
        folder.writing(name) as sink,
        pq.ParquetWriter(sink, TABLE, write_page_checksum=True) as writer,
    ):
        for arm in arms:
            source = Folder(arm.run_dir)
            for part in final_files(source):
                with source.fs.open_input_file(source.path(part.name)) as handle:
                    file = pq.ParquetFile(handle, page_checksum_verification=True)
                    for batch in file.iter_batches(batch_size=_ROWS, columns=TRACES.names):
                        names = pa.array([arm.name] * batch.num_rows, pa.string())
                        rows = pa.Table.from_arrays([names, *batch.columns], schema=TABLE)
                        writer.write_table(rows)


def markdown(found: Comparison) -> str:
    """The tables of a comparison."""
    tables = (_head, _arms, _differences, _training, _distances, _rewards, _curves, _yields, _bands)
    return "\n".join(line for table in tables for line in table(found)) + "\n"


def _head(found: Comparison) -> Iterator[str]:
    yield "# Comparison\n"
    yield (
        f"{found.prompts:,} prompts, the same for every arm; differences are to `{found.reference}`"
        ", paired by prompt. Brackets hold bootstrap intervals over prompts.\n"
    )
    if found.dead:
        named = ", ".join(f"{name} {count}" for name, count in found.dead.items())
        yield f"Prompts with a dead letter in an arm are left out of all: {named}.\n"


def _arms(found: Comparison) -> Iterator[str]:
    yield (
        "| arm | method | accuracy | reward | log p a token "
        "| calls | MFLOP | tokens | engine s | made wrong |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for arm in found.arms:
        cost = arm.costs
        broken = "" if arm.broken is None else f"{arm.broken:.1%}"
        yield (
            f"| {arm.name} | {arm.method} | {shown(arm.accuracy)} | {shown(arm.reward)} | "
            f"{shown(arm.fluency)} | {cost['paper_calls']:,.1f} | {cost['flops'] / 1e6:,.1f} | "
            f"{cost['generated_tokens']:,.1f} | {cost['seconds']:.3f} | {broken} |"
        )
    yield (
        "\nLog p a token: the mean log-likelihood, in nats, of a token under the base LM, as a "
        "measure of fluency. "
        "Costs are those of one response, with the judge's reading of it where there is a judge, "
        "and without the training of models, which has a table of its own. "
        "Made wrong: of the responses that a revision changed, those that were right before and "
        "are wrong now.\n"
    )


def _differences(found: Comparison) -> Iterator[str]:
    yield f"## Differences to {found.reference}\n"
    yield "| arm | measure | difference | won | lost | test | p | p, Holm |"
    yield "|---|---|---|---|---|---|---|---|"
    for arm in found.arms:
        for measure, one in arm.over_reference.items():
            yield (
                f"| {arm.name} | {measure} | {signed(one.difference)} | {one.won} | {one.lost} | "
                f"{one.test} | {one.p:.2g} | {one.adjusted:.2g} |"
            )
    yield ""


def _training(found: Comparison) -> Iterator[str]:
    models = {(m.role, m.revision): m for arm in found.arms for m in arm.training}
    if not models:
        return
    yield "## Training, in GFLOP, and the prompts after which it pays\n"
    yield "| model | role | steps | samples | measurements | data | all | hours |"
    yield "|---|---|---|---|---|---|---|---|"
    for model in models.values():
        yield f"| {model.name} `{model.revision}` | {model.role} | {_training_cost(model.cost)} |"
    yield "\n| arm | models | rival | its score | its MFLOP a prompt | own MFLOP | pays |"
    yield "|---|---|---|---|---|---|---|"
    for arm in found.arms:
        one = arm.break_even
        if one is None:
            continue
        roles = ", ".join(m.role for m in arm.training)
        yield (
            f"| {arm.name} | {roles} | {one.rival} | {one.rival_score:.3f} | "
            f"{one.rival_flops / 1e6:,.1f} | {arm.costs['flops'] / 1e6:,.1f} | {verdict(one)} |"
        )
    yield (
        "\nThe rival is the cheapest untrained method, also with fewer samples, that is at least "
        "as good; where there is none, the best one. Training pays after N prompts: then its FLOPs "
        "and those of N answers are as many as those of the rival's N answers. Steps, samples, "
        "measurements: FLOPs of optimiser steps, of responses that the training drew, and of "
        "validation. Data: of the rows that it learned from. Unknown is what a model's card does "
        "not tell.\n"
    )


def _training_cost(cost: TrainingCost | None) -> str:
    if cost is None:
        return " | ".join(["unknown"] * 6)
    parts = (cost.steps, cost.samples, cost.measurements, cost.data, cost.flops)
    shown_parts = ("unknown" if part is None else f"{part / 1e9:,.1f}" for part in parts)
    hours = "unknown" if cost.seconds is None else f"{cost.seconds / 3600:.2f}"
    return " | ".join([*shown_parts, hours])


def verdict(found: BreakEven) -> str:
    """When training pays, in words."""
    match found.state:
        case "pays":
            return f"after {found.prompts:,} prompts"
        case "never":
            return "never: the rival costs no more"
        case "unmatched":
            cheaper = "" if found.prompts is None else f"; cheaper after {found.prompts:,} prompts"
            return f"no untrained method is as good{cheaper}"
        case "unknown":
            return "unknown: a card does not tell the cost"


def _distances(found: Comparison) -> Iterator[str]:
    measured = [(arm, arm.distance) for arm in found.arms if arm.distance is not None]
    if not measured:
        return
    yield "## Distance to the base LM, in nats a response\n"
    yield "| arm | responses | KL(arm, LM) | plain estimate | -log p under the LM | bound |"
    yield "|---|---|---|---|---|---|"
    for arm, one in measured:
        yield (
            f"| {arm.name} | {one.kind} | {shown(one.kl)} | {shown(one.plain)} | "
            f"{shown(one.nll)} | {_number(one.bound, '.3f')} |"
        )
    yield (
        "\nSampled: tokens are drawn from a law that is known; KL is estimated from the responses "
        "(Rao-Blackwellised; the plain estimate beside it). One response: the arm gives a prompt "
        "one response, so its law is a point, and KL is -log p of it, as it is of greedy decoding. "
        "Search: the law has no formula and KL is not estimated; -log p is KL plus the entropy of "
        "the arm, an upper bound. Bound: log N - (N - 1) / N of best of N, to the law that it "
        "samples from.\n"
    )


def _rewards(found: Comparison) -> Iterator[str]:
    second = any(arm.judging.second_reward for arm in found.arms)
    head = ["arm", "AUC of the judge", *(["second judge's reward", "its AUC"] * second)]
    yield "## Rewards and answers\n"
    yield f"| {' | '.join([*head, 'revisions made wrong', 'made right'])} |"
    yield "|---" * (len(head) + 2) + "|"
    for arm in found.arms:
        one = arm.judging
        others = [shown(one.second_reward), _number(one.second_auc, ".3f")] * second
        cells = [arm.name, _number(one.auc, ".3f"), *others]
        yield f"| {' | '.join([*cells, _percent(one.broken), _percent(one.mended)])} |"
    yield (
        "\nAUC: the probability that a right response has a higher reward than a wrong one. "
        "Revisions: of those that were accepted, a right answer made wrong, and the reverse.\n"
    )


def _curves(found: Comparison) -> Iterator[str]:
    if not found.curves:
        return
    yield "## With fewer samples or proposals\n"
    yield "| arm | of | k | accuracy | reward | calls | MFLOP | tokens |"
    yield "|---|---|---|---|---|---|---|---|"
    for curve in found.curves:
        for n, k in enumerate(curve.samples):
            accuracy = _number(curve.accuracy[n] if curve.accuracy else None, ".3f")
            reward = _number(curve.reward[n] if curve.reward else None, ".3f")
            calls, flops, tokens = (
                curve.costs[name][n] for name in ("paper_calls", "flops", "generated_tokens")
            )
            yield (
                f"| {curve.arm} | {curve.kind} | {k} | {accuracy} | {reward} | {calls:,.1f} | "
                f"{flops / 1e6:,.1f} | {tokens:,.1f} |"
            )
    yield ""


def _percent(value: float | None) -> str:
    return _number(value, ".1%")


def _yields(found: Comparison) -> Iterator[str]:
    measured = [(arm, arm.yields) for arm in found.arms if arm.yields is not None]
    if not measured:
        return
    hard = f"wrong in {found.reference}"
    yield "## Yield: prompts with a right response\n"
    unit, factor = flop_unit(one.right_per_gflop for _, one in measured)
    yield f"| arm | samples | of all | for 1 {unit} | of those {hard} | for 1 {unit} |"
    yield "|---|---|---|---|---|---|"
    for arm, one in measured:
        yield (
            f"| {arm.name} | {arm.samples} | {one.right:.3f} | "
            f"{one.right_per_gflop * factor:,.2f} | {_number(one.right_on_hard, '.3f')} | "
            f"{_number(_times(one.hard_per_gflop, factor), ',.2f')} |"
        )
    yield ""


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _bands(found: Comparison) -> Iterator[str]:
    graded = [arm for arm in found.arms if arm.bands]
    if not graded:
        return
    yield f"## Accuracy by length and pass rate of {found.reference}\n"
    # A row for each arm: there may be many, and a band is one of eight at most.
    counts = " | ".join(f"{band} ({count:,})" for band, count in found.bands.items())
    yield f"| prompts (number) | {counts} |"
    yield "|---" * (1 + len(found.bands)) + "|"
    for arm in graded:
        cells = (_band(arm, band) for band in found.bands)
        yield f"| {arm.name} | " + " | ".join(cells) + " |"
    yield ""


def _band(arm: ArmFigures, band: str) -> str:
    return f"{arm.bands[band]:.3f}" if band in arm.bands else ""


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def shown(found: Interval | None) -> str:
    """A mean with its interval; nothing for None."""
    return "" if found is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def signed(found: Interval) -> str:
    """A difference with its interval."""
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
