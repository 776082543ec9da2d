"""Tables of the report."""

from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.report.report import tables


def test_checks_and_controls_have_one_row_for_all_seeds():
    results = PartResults("continuous")
    for seed in (0, 1):
        results.positive("KS", "noisy descent", seed, 1.0, 2.0)
    results.control("KS", "no noise", 0, 9.0, 2.0)
    (table,) = tables(results.findings)
    assert table.rows == [
        ["KS", "noisy descent", "1", "2", "must hold", "holds (2 seeds)"],
        ["KS", "no noise", "9", "2", "must fail", "fails"],
    ]


def test_arms_show_a_value_with_its_interval_or_why_there_is_none():
    results = PartResults("checkpoints")
    results.report(names.KL, "policy", 0, 0.5)
    results.report(names.half_width(names.KL), "policy", 0, 0.1)
    results.not_estimable(f"{names.GAP} (value: smallest ESS)", "policy", 0, 20.0, 300.0)
    (table,) = tables(results.findings)
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["KL"] == "0.500 ± 0.100"
    assert row["gap"] == "not estimable"
    assert row["accuracy"] == ""
