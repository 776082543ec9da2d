"""Which data a guide is trained on. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Data:
    """What a guide is trained on.

    `counterfactuals` and `traces` are run folders of `jobs.counterfactuals` and
    `jobs.generate`, mixed; of each the first `limit` rows. Prompts are held out for measuring
    with probability `held_out`, by their id. Alternatives to which the LM gives a
    log-probability below `min_log_probability` are left out (traces hold none: there it leaves
    out nothing but what a teacher adds). Verdicts of a verifier become
    log-odds, 0 and 1 first drawn in by `label_smoothing`.
    """

    counterfactuals: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    limit: int | None = None
    held_out: float = 0.1
    min_log_probability: float | None = None
    label_smoothing: float = 0.05

    def __post_init__(self) -> None:
        if not self.counterfactuals and not self.traces:
            raise ValueError("data: name at least one folder in counterfactuals or traces")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"data.limit must be at least 1, got {self.limit}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"data.held_out must be above 0 and below 1, got {self.held_out}")
        if not 0 < self.label_smoothing < 0.5:
            raise ValueError(
                f"data.label_smoothing must be above 0 and below 0.5, got {self.label_smoothing}"
            )

    @property
    def least(self) -> float:
        """`min_log_probability`, -inf where nothing is left out."""
        least = self.min_log_probability
        return float("-inf") if least is None else least
