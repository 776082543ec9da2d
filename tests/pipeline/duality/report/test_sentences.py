"""The sentences carry the numbers of the findings, and only those that were measured."""

from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.report.sentences import what_we_measured


def test_a_part_that_was_not_run_has_no_sentence():
    assert what_we_measured([]) == []


def test_a_sentence_shows_means_and_ranges_over_seeds():
    results = PartResults("tokens")
    for seed, gap in enumerate((0.25, 0.35)):
        results.report(names.GAP, "nabla decoding, published (lr .01)", seed, gap, 0.03)
        results.report(names.GAP, "nabla decoding, null arm", seed, 0.4, 0.03)
        results.report(names.GAP, "nabla decoding, lr .1, lambda 1", seed, 0.5, 0.03)
        results.report(names.GAP, "nabla decoding, lr .1, lambda 4", seed, 0.7, 0.03)
        results.report(names.GAP, "nabla decoding, mirror", seed, 0.6, 0.03)
    (sentence,) = what_we_measured(results.findings)
    assert "published settings lies 0.30 ± 0.64 below the frontier" in sentence
    assert "learning rate 0 lies 0.40 below it" in sentence
    assert "the gap is 0.50 to 0.70, with the mirror step 0.60." in sentence


def test_a_number_that_is_not_estimable_is_in_no_sentence():
    results = PartResults("language")
    results.positive(names.MH_ERROR, "method mh, beta 4", 0, 1.0, 4.0)
    results.control(names.MH_ERROR, "reference LM taken for pi*, beta 4", 0, 8.0, 4.0)
    results.not_estimable(names.MH_ERROR, "method mh, beta 1", 0, 20.0, 300.0)
    (sentence,) = what_we_measured(results.findings)
    assert "differs by 1.00 standard errors" in sentence
    assert "differ by 8.0 standard errors" in sentence
    assert "20" not in sentence
