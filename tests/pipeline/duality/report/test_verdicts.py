"""Which findings decide a claim."""

from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.report.claims import Claim
from pipeline.duality.report.verdicts import judge_claims


def test_a_claim_is_decided_by_its_findings_and_no_others():
    results = PartResults("tokens")
    for seed, value in enumerate((0.05, 0.3)):
        results.report(names.FITTED_TV, "DTO lr .1, 200 steps, lambda 1", seed, value, 0.1)
    results.report(names.GAP, "best of 4", 0, 0.01, 0.03)
    judged = {result.claim.text: result for result in judge_claims(results.findings)}
    descent = next(r for text, r in judged.items() if text.startswith("DTO with larger steps"))
    assert (descent.verdict, descent.threshold) == ("fails", "0.1")
    assert "(at most 0.3)" in descent.number
    assert judged["Best of N lies on the frontier (gap)"].verdict == "holds"
    assert not any(text.startswith("Nabla decoding") for text in judged)


def test_what_is_only_reported_decides_no_claim_that_has_checks():
    results = PartResults("language")
    check = names.MH_ERROR
    results.positive(check, "method mh, beta 4", 0, 1.0, 4.0)
    results.report(check, "method mh, beta 1", 0, 9.0, 4.0)
    results.control(check, "reference LM taken for pi*, beta 4", 0, 8.0, 4.0)
    (result,) = judge_claims(results.findings)
    assert (result.verdict, result.number) == ("holds", "1")
    assert result.control == "reference LM taken for pi*, beta 4: 8"


def test_the_interval_of_a_number_is_no_number_of_its_claim():
    results = PartResults("language")
    results.report(names.GAP, "RLOO, 40 steps, beta 4", 0, 0.2, 0.03)
    results.report(names.half_width(names.GAP), "RLOO, 40 steps, beta 4", 0, 0.01)
    (result,) = judge_claims(results.findings)
    assert (result.verdict, result.number) == ("fails", "0.2")


def test_a_claim_without_an_estimable_number_shows_the_smallest_ess():
    results = PartResults("checkpoints")
    check = f"{names.GAP} (value: smallest ESS)"
    results.not_estimable(check, "policy", 0, 12.0, 300.0)
    (result,) = judge_claims(results.findings)
    assert (result.verdict, result.number, result.threshold) == ("not estimable", "ESS 12", "300")


def test_a_control_decides_only_a_claim_about_controls():
    results = PartResults("continuous")
    results.control("c", "no noise", 0, 9.0, 2.0)
    claim = Claim(text="t", part="continuous", check="c", arm="no noise")
    about = Claim(text="t", part="continuous", check="c", arm="no noise", about_controls=True)
    assert judge_claims(results.findings, [claim]) == []
    assert [result.verdict for result in judge_claims(results.findings, [about])] == ["fails"]
