"""The experiments notice wrong chains."""

from pipeline.duality.findings import PartResults, failed_self_checks
from pipeline.duality.tokens import checks as tokens
from pipeline.duality.tokens import kernels
from pipeline.duality.tokens.config import TokensConfig
from pipeline.duality.tokens.enumerable import (
    EnumeratedModels,
)


def test_the_stage_passes_its_chains_and_catches_broken_ones(models: EnumeratedModels, monkeypatch):
    """Mutations: no acceptance test at all, and a beta off by five per cent."""
    settings = TokensConfig(chain_steps=60)

    def found() -> set[tuple[str, str]]:
        results = PartResults("tokens")
        tokens._chains(results, models, settings, 0)
        return {
            (f.kind, f.arm) for f in failed_self_checks(results.findings) if "rises" not in f.check
        }

    assert found() == set()
    original = kernels.suffix_resampling
    broken_ones = (
        lambda w, beta, metropolis=True: original(w, beta, metropolis=False),
        lambda w, beta, metropolis=True: original(w, 1.05 * beta, metropolis=metropolis),
    )
    for mutation in broken_ones:
        monkeypatch.setattr(kernels, "suffix_resampling", mutation)
        assert ("positive", "suffix resampling + Metropolis") in found()
