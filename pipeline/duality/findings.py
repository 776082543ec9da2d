"""Findings of the stage, one number a row, and which of them test the stage itself."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

Kind = Literal["positive", "control", "report"]
CheckVerdict = Literal["holds", "fails", "not estimable", "reported"]

SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("check", pa.string()),
        ("arm", pa.string()),
        ("seed", pa.int64()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("kind", pa.string()),
        ("verdict", pa.string()),
    ]
)

# The verdict that a correct stage must give.
_REQUIRED: dict[Kind, CheckVerdict] = {"positive": "holds", "control": "fails"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number. A check `holds` where `value <= threshold`.

    `kind` says what the verdict means. `positive`: a theorem says that the check holds.
    `control`: the arm is wrong on purpose, and the check must fail; otherwise it could not
    tell right from wrong. `report`: nothing is required, the number is only reported.
    """

    part: str
    check: str
    arm: str
    seed: int
    value: float
    threshold: float | None
    kind: Kind
    verdict: CheckVerdict

    @property
    def as_required(self) -> bool:
        """Whether the verdict is the one that a correct stage must give.

        A control that is not estimable does not count as failed.
        """
        return self.kind == "report" or self.verdict == _REQUIRED[self.kind]

    def __str__(self) -> str:
        """One line for a message: where it is from, its value and what is required of it."""
        text = f"{self.part}: {self.check} [{self.arm}, seed {self.seed}]: {self.value:.4g}"
        if self.threshold is None or self.kind == "report":
            return text
        required = "at most" if self.kind == "positive" else "above"
        return f"{text}, must be {required} {self.threshold:.4g} ({self.kind})"


@dataclass
class PartResults:
    """The findings of one part, and the data its plots are drawn from, by name."""

    part: str
    findings: list[Finding] = field(default_factory=list)
    plot_data: dict[str, Any] = field(default_factory=dict)

    def positive(self, check: str, arm: str, seed: int, value: float, threshold: float) -> None:
        """Add a check that must hold."""
        self._add("positive", check, arm, seed, value, threshold, _judge(value, threshold))

    def control(self, check: str, arm: str, seed: int, value: float, threshold: float) -> None:
        """Add a check that must fail."""
        self._add("control", check, arm, seed, value, threshold, _judge(value, threshold))

    def report(
        self, check: str, arm: str, seed: int, value: float, threshold: float | None = None
    ) -> None:
        """Add a number of which nothing is required; judged if there is a threshold."""
        verdict: CheckVerdict = "reported" if threshold is None else _judge(value, threshold)
        self._add("report", check, arm, seed, value, threshold, verdict)

    def not_estimable(
        self, check: str, arm: str, seed: int, ess: float, required_ess: float
    ) -> None:
        """Add a check without a number: its value is the effective sample size that was found,
        its threshold the one that is required."""
        self._add("report", check, arm, seed, ess, required_ess, "not estimable")

    def _add(
        self,
        kind: Kind,
        check: str,
        arm: str,
        seed: int,
        value: float,
        threshold: float | None,
        verdict: CheckVerdict,
    ) -> None:
        self.findings.append(
            Finding(
                part=self.part,
                check=check,
                arm=arm,
                seed=seed,
                value=float(value),
                threshold=threshold,
                kind=kind,
                verdict=verdict,
            )
        )


# Plot data that are lists, with one entry for each seed.
JOINED = ("rate in N",)


def merge(pieces: Sequence[PartResults]) -> PartResults:
    """The results of one part's pieces as one. Of plot data the first is kept; lists in
    `JOINED` are concatenated."""
    whole = PartResults(pieces[0].part)
    for piece in pieces:
        whole.findings += piece.findings
        for name, data in piece.plot_data.items():
            if name not in whole.plot_data:
                whole.plot_data[name] = data
            elif name in JOINED:
                whole.plot_data[name] = whole.plot_data[name] + data
    return whole


def _judge(value: float, threshold: float) -> CheckVerdict:
    if math.isnan(value):
        return "not estimable"
    return "holds" if value <= threshold else "fails"


def failed_self_checks(findings: Iterable[Finding]) -> list[Finding]:
    """The positive checks that do not hold and the controls that do not fail."""
    return [finding for finding in findings if not finding.as_required]


def to_parquet(findings: Sequence[Finding]) -> bytes:
    """The contents of `results.parquet`."""
    sink = io.BytesIO()
    table = pa.Table.from_pylist([asdict(f) for f in findings], schema=SCHEMA)
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds, and half the width of its 95 % t interval (0 for one seed)."""

    mean: float
    half_width: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> SeedMean:
        """From one value a seed."""
        n = len(values)
        mean = math.fsum(values) / n
        if n < 2 or not all(map(math.isfinite, values)):
            return cls(mean, 0.0, n)
        variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
        t = _T95[n - 2] if n - 2 < len(_T95) else 1.96
        return cls(mean, t * math.sqrt(variance / n), n)

    def __str__(self) -> str:
        if self.half_width == 0:
            return f"{self.mean:.3g}"
        if self.half_width < SMALL:
            return f"{self.mean:.3g} ± {self.half_width:.2g}"
        # Two significant digits of the interval, and as many decimals of the mean.
        decimals = max(0, 1 - math.floor(math.log10(self.half_width)))
        return f"{self.mean:.{decimals}f} ± {self.half_width:.{decimals}f}"


# Half-widths below this one are written with an exponent.
SMALL = 1e-4
# Student's t at .975 for 1, 2, ... degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
