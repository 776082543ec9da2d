"""The plots of tokens and language are drawn from findings."""

import pytest

from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.report.plots import draw

PNG = b"\x89PNG"


def tokens() -> PartResults:
    results = PartResults("tokens")
    for arm in ("discrete Langevin + Metropolis", "DTO published", "another arm"):
        for check in (names.REWARD, names.KL, names.GAP, names.FITTED_TV):
            results.report(check, arm, 0, 0.5)
    results.plot_data = {
        "frontier": [(0.0, 0.0), (1.0, 1.0)],
        "chains": {"discrete Langevin + Metropolis": [1.0, 0.0]},
    }
    return results


def language(part: str) -> PartResults:
    results = PartResults(part)
    gain = names.above_reference(names.REWARD)
    for seed in (0, 1):
        for arm in ("pi*, beta 4", "reference LM"):
            results.report(names.KL, arm, seed, 0.5 * seed)
            results.report(gain, arm, seed, 0.5)
        # A sampler: its KL lies between two numbers.
        results.report(names.KL_LOW, "method mh", seed, 0.1)
        results.report(names.KL_HIGH, "method mh", seed, 2.0)
        results.report(gain, "method mh", seed, 1.0)
        results.report(names.above_reference(names.ACCURACY), "method mh", seed, 0.1)
    results.not_estimable(f"{names.KL} (value: smallest ESS)", "pi*, beta 1", 0, 9.0, 300.0)
    return results


@pytest.mark.parametrize(
    ("results", "plots"),
    [
        (tokens(), {"tokens-reward-kl", "tokens-all-seeds", "tokens-chains"}),
        (language("language"), {"language-reward-kl"}),
        (language("checkpoints"), {"checkpoints-reward-kl"}),
    ],
    ids=["tokens", "language", "checkpoints"],
)
def test_a_part_has_its_plots(results, plots):
    drawn = draw([results])
    assert set(drawn) == plots
    assert all(caption and picture.startswith(PNG) for caption, picture in drawn.values())
