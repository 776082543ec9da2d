r"""Whether two single expressions are equal: math-verify reads them, numbers decide.

math-verify's own comparison takes .0000672 for .0000673 (it rounds to six decimals) and e for E.
So expressions are evaluated to 40 digits, with numbers in place of their variables. Two expressions
that agree at three such points are equal but for identities made to deceive.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_DIGITS = 40
_TOLERANCE = 30  # digits of two equal values that agree at least
_POINTS = ("0.7319", "1.2847", "2.0953")
_DECIMAL = re.compile(r"(\d*)\.(\d+)")
_ENCLOSING = re.compile(r"\\begin|\\text|[,;]")


def equal(expected: str, given: str) -> bool:
    """Whether two expressions in LaTeX have equal values. False if one cannot be read."""
    first, second = _parsed(expected), _parsed(given)
    if first is None or second is None:
        return False
    verdict = _agree(first, second)
    return _verified(first, second) if verdict is None else verdict


def same_equation(expected: Sequence[str], given: Sequence[str]) -> bool:
    """Whether two equations, each a left and a right side, are multiples of one another."""
    sides = [_parsed(side) for side in (*expected, *given)]
    if any(side is None for side in sides):
        return False
    first, second = sides[0] - sides[1], sides[2] - sides[3]
    names = _names(first) | _names(second)
    if not names:
        return False
    ratios = []
    for point in range(3):
        values = [_value(side, names, point) for side in (first, second)]
        if None in values or not values[0] or not values[1]:
            return False
        ratios.append(values[0] / values[1])
    return all(_close(ratio, ratios[0]) for ratio in ratios)


def _parsed(text: str) -> Any:
    # sympy takes seconds to import, and is needed in the child process alone.
    from latex2sympy2_extended import NormalizationConfig  # noqa: PLC0415
    from math_verify import LatexExtractionConfig, parse  # noqa: PLC0415
    from sympy import Expr  # noqa: PLC0415

    if _ENCLOSING.search(text):
        return None
    # Without its normalisation: it takes the c of 3c for a unit.
    as_is = NormalizationConfig(basic_latex=True, units=False, malformed_operators=False,
                                nits=False, boxed="none", equations=False)  # fmt: skip
    config = LatexExtractionConfig(normalization_config=as_is)
    exact = _DECIMAL.sub(_fraction, text)
    found = parse(f"${exact}$", [config], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if len(found) == 1 and isinstance(found[0], Expr) else None


def _fraction(decimal: re.Match[str]) -> str:
    whole, decimals = decimal.groups()
    return rf"\frac{{{whole}{decimals}}}{{1{'0' * len(decimals)}}}"


def _agree(first: Any, second: Any) -> bool | None:
    """Whether both have equal values at every point; None if they cannot be evaluated."""
    names = _names(first) | _names(second)
    for point in range(3 if names else 1):
        values = [_value(side, names, point) for side in (first, second)]
        if None in values:
            return None
        if not _close(*values):
            return False
    return True


def _names(expression: Any) -> set[str]:
    return {symbol.name for symbol in expression.free_symbols}


def _value(expression: Any, names: set[str], point: int) -> Any:
    from sympy import I, Rational  # noqa: PLC0415

    values = {
        name: Rational(_POINTS[point]) + Rational(k * k + k, 7)
        for k, name in enumerate(sorted(names - {"i"}))
    }
    values["i"] = I
    try:
        number = expression.doit().subs({s: values[s.name] for s in expression.free_symbols})
        value = number.evalf(_DIGITS)
        parts = value.as_real_imag()
    except (ArithmeticError, TypeError, ValueError, AttributeError, NotImplementedError):
        return None
    return value if all(part.is_number and part.is_finite for part in parts) else None


def _close(first: Any, second: Any) -> bool:
    size = max(abs(first), abs(second))
    return bool(size == 0 or abs(first - second) <= size * 10**-_TOLERANCE)


def _verified(first: Any, second: Any) -> bool:
    from math_verify import verify  # noqa: PLC0415

    return bool(verify([first], [second], timeout_seconds=None))
