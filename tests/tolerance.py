"""What "the same rows" means where batches differ: README of `pipeline`, promises 2 and 8."""

from collections.abc import Sequence

# Rewards of equal responses may differ by this much, in the judge's units: a batch of another size
# adds numbers in another order. `python -m tests.bench.passes.batches` measured 4.5e-5 at most.
REWARD = 1e-4


def same_rewards(found: Sequence[float | None], expected: Sequence[float | None]) -> bool:
    """Whether as many rewards are there, each within the tolerance; None is no reward."""
    return len(found) == len(expected) and all(
        a == b if a is None or b is None else abs(a - b) <= REWARD
        for a, b in zip(found, expected, strict=True)
    )
