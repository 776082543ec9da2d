"""What the stage finds, one number a row, and whether its own instruments can be trusted."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

Kind = Literal["positive", "control", "report"]
Verdict = Literal["holds", "fails", "not estimable", "reported"]

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


@dataclass(frozen=True)
class Finding:
    """One number. A check `holds` where `value <= threshold`.

    `positive`: mathematics says it must hold; `control`: it must fail, or the stage cannot
    tell right from wrong; `report`: the stage has no opinion, whatever comes out stands.
    """

    part: str
    check: str
    arm: str
    seed: int
    value: float
    threshold: float | None
    kind: Kind
    verdict: Verdict

    @property
    def sound(self) -> bool:
        """Whether it speaks for the instruments. A control without a number does not."""
        return self.kind == "report" or self.verdict == _EXPECTED[self.kind]


_EXPECTED: dict[Kind, Verdict] = {"positive": "holds", "control": "fails"}


@dataclass
class Book:
    """The findings of one part, and the arrays its plots are drawn from."""

    part: str
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def positive(self, check: str, arm: str, seed: int, value: float, threshold: float) -> None:
        self._enter("positive", check, arm, seed, value, threshold, _judge(value, threshold))

    def control(self, check: str, arm: str, seed: int, value: float, threshold: float) -> None:
        self._enter("control", check, arm, seed, value, threshold, _judge(value, threshold))

    def report(
        self, check: str, arm: str, seed: int, value: float, threshold: float | None = None
    ) -> None:
        verdict: Verdict = "reported" if threshold is None else _judge(value, threshold)
        self._enter("report", check, arm, seed, value, threshold, verdict)

    def not_estimable(self, check: str, arm: str, seed: int, ess: float, least: float) -> None:
        """The value is the effective sample size found, the threshold the least asked for."""
        self._enter("report", check, arm, seed, ess, least, "not estimable")

    def _enter(
        self,
        kind: Kind,
        check: str,
        arm: str,
        seed: int,
        value: float,
        threshold: float | None,
        verdict: Verdict,
    ) -> None:
        value = float(value)
        self.findings.append(Finding(self.part, check, arm, seed, value, threshold, kind, verdict))


def merged(books: Sequence[Book]) -> Book:
    """Books of one part as one. Of figures the first is kept; lists of curves are joined."""
    whole = Book(books[0].part)
    for book in books:
        whole.findings += book.findings
        for name, figure in book.figures.items():
            if name not in whole.figures:
                whole.figures[name] = figure
            elif name in JOINED:
                whole.figures[name] = whole.figures[name] + figure
    return whole


JOINED = ("ensemble rate",)


def _judge(value: float, threshold: float) -> Verdict:
    if math.isnan(value):
        return "not estimable"
    return "holds" if value <= threshold else "fails"


def broken(findings: Iterable[Finding]) -> list[Finding]:
    """The positive checks that do not hold and the controls that do not fail."""
    return [f for f in findings if not f.sound]


def to_parquet(findings: Sequence[Finding]) -> bytes:
    """`results.parquet`."""
    sink = io.BytesIO()
    table = pa.Table.from_pylist([asdict(f) for f in findings], schema=SCHEMA)
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


@dataclass(frozen=True)
class Spread:
    """A number over seeds: mean, and half the width of its 95 % t interval (0 for one seed)."""

    mean: float
    half: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        n = len(values)
        mean = math.fsum(values) / n
        if n < 2 or not all(map(math.isfinite, values)):
            return cls(mean, 0.0, n)
        variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
        t = _T95[n - 2] if n - 2 < len(_T95) else 1.96
        return cls(mean, t * math.sqrt(variance / n), n)

    def __str__(self) -> str:
        if self.half == 0:
            return f"{self.mean:.3g}"
        if self.half < SMALL:
            return f"{self.mean:.3g} ± {self.half:.2g}"
        decimals = max(0, 1 - math.floor(math.log10(self.half)))
        return f"{self.mean:.{decimals}f} ± {self.half:.{decimals}f}"


# Below, numbers are told by their exponent.
SMALL = 1e-4
# Student's t at .975 for 1, 2... degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
