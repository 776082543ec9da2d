"""Verdicts, which findings fail the stage, and means over seeds."""

import io
import math

import pyarrow.parquet as pq
import pytest

from pipeline.duality.findings import (
    SCHEMA,
    PartResults,
    SeedMean,
    failed_self_checks,
    merge,
    to_parquet,
)


def test_verdicts_and_self_checks():
    results = PartResults("tokens")
    results.positive("c", "fine", 0, 0.1, 0.2)
    results.positive("c", "not a number", 0, math.nan, 0.2)
    results.positive("c", "too large", 0, 0.3, 0.2)
    results.control("c", "caught", 0, 0.3, 0.2)
    results.control("c", "missed", 0, 0.1, 0.2)
    results.control("c", "no number", 0, math.nan, 0.2)
    results.report("c", "free", 0, 9.0, 0.2)
    results.not_estimable("c", "few", 0, 12.0, 300.0)
    assert [f.arm for f in failed_self_checks(results.findings)] == [
        "not a number",
        "too large",
        "missed",
        "no number",
    ]
    assert [f.verdict for f in results.findings[-2:]] == ["fails", "not estimable"]


def test_a_threshold_itself_holds_and_a_number_without_one_is_reported():
    results = PartResults("tokens")
    results.positive("c", "equal", 0, 0.2, 0.2)
    results.report("c", "free", 0, 9.0)
    assert [f.verdict for f in results.findings] == ["holds", "reported"]


def test_a_finding_as_a_line():
    results = PartResults("tokens")
    results.positive("gap", "RLOO", 3, 0.25, 0.03)
    results.control("gap", "cut short", 3, 0.0123456, 0.03)
    results.report("gap", "DTO", 3, 1.5, 0.03)
    assert [str(finding) for finding in results.findings] == [
        "tokens: gap [RLOO, seed 3]: 0.25, must be at most 0.03 (positive)",
        "tokens: gap [cut short, seed 3]: 0.01235, must be above 0.03 (control)",
        "tokens: gap [DTO, seed 3]: 1.5",
    ]


def test_merging_keeps_all_findings_the_first_plot_data_and_every_rate():
    pieces = []
    for seed in (0, 1):
        piece = PartResults("continuous")
        piece.report("c", "arm", seed, 1.0)
        piece.plot_data = {"paths": seed, "rate in N": [seed]}
        pieces.append(piece)
    whole = merge(pieces)
    assert [f.seed for f in whole.findings] == [0, 1]
    assert whole.plot_data == {"paths": 0, "rate in N": [0, 1]}
    # The pieces are cached, so they must stay as they are.
    assert pieces[0].plot_data["rate in N"] == [0]


def test_parquet_has_a_row_for_each_finding():
    results = PartResults("tokens")
    results.report("c", "arm", 0, 1.5)
    table = pq.read_table(io.BytesIO(to_parquet(results.findings)))
    assert table.schema.equals(SCHEMA)
    (row,) = table.to_pylist()
    assert (row["value"], row["threshold"], row["verdict"]) == (1.5, None, "reported")


def test_mean_over_seeds():
    found = SeedMean.of([1.0, 2.0, 3.0])
    assert (found.mean, found.seeds) == (2.0, 3)
    assert found.half_width == pytest.approx(4.303 / math.sqrt(3))
    assert SeedMean.of([5.0]).half_width == 0


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([5.0], "5"),
        ([0.1, 0.1], "0.1"),
        ([1.0, 2.0, 3.0], "2.0 ± 2.5"),
        ([0.1, 0.11, 0.12], "0.110 ± 0.025"),
        ([0.0, 1e-6], "5e-07 ± 6.4e-06"),
    ],
)
def test_how_a_mean_is_written(values, text):
    assert str(SeedMean.of(values)) == text
