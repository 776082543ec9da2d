"""The numbers by which laws are compared."""

import pytest
import torch

from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.frontier import RegularisedProblem
from pipeline.duality.tokens.metrics import describe, empirical_tv, sampling_bound


@pytest.fixture(scope="module")
def problem() -> RegularisedProblem:
    log_ref = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64))
    return RegularisedProblem(log_ref, torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64))


def test_an_optimum_is_described_as_itself(problem: RegularisedProblem):
    results = PartResults("tokens")
    describe(results, problem, "arm", 0, problem.optimum(2.0), 2.0)
    found = {f.check: f for f in results.findings}
    assert found[names.GAP].value == pytest.approx(0, abs=1e-9)
    assert found[names.FITTED_BETA].value == pytest.approx(2.0)
    assert found[names.TV].value == pytest.approx(0, abs=1e-12)
    assert {f.verdict for f in results.findings} == {"holds", "reported"}


def test_another_law_is_far_from_the_optimum(problem: RegularisedProblem):
    results = PartResults("tokens")
    worst_first = torch.tensor([0.9, 0.0, 0.0, 0.1], dtype=torch.float64)
    describe(results, problem, "arm", 0, worst_first, 2.0)
    verdicts = {f.check: f.verdict for f in results.findings}
    assert verdicts[names.GAP] == verdicts[names.TV] == verdicts[names.FITTED_TV] == "fails"


def test_exact_draws_stay_within_their_bound_and_other_draws_do_not(problem: RegularisedProblem):
    generator = torch.Generator().manual_seed(0)
    law, count = problem.reference, 2_000
    bound = sampling_bound(law, count, generator)

    def tv(of: torch.Tensor) -> float:
        drawn = of.multinomial(count, replacement=True, generator=generator)
        return empirical_tv(torch.bincount(drawn, minlength=4).double(), law)

    assert max(tv(law) for _ in range(20)) <= bound < tv(problem.optimum(4.0))


def test_tv_of_counts_by_hand():
    counts = torch.tensor([3.0, 1.0], dtype=torch.float64)
    law = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert empirical_tv(counts, law) == 0.25
