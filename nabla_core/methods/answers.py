r"""The answer that a response ends in, and when two answers are the same.

Plain text and plain numbers only: LaTeX that takes more than a fraction is compared as text here.
Every function takes time linear in the length of its input, which a model wrote.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import groupby

# Beyond so many digits a number is compared by its digits, not as a Fraction: Python converts
# texts of more than 4,300 digits to no int, and 1e999999999 would fill the memory.
MAX_DIGITS = 400

_MINUS = str.maketrans({"\u2212": "-", "\ufe63": "-", "\uff0d": "-"})
_SEPARATOR = re.compile(r"(?<=\d)(?:\{,\}|,\\!\s*|\\,|[\u00a0\u2009\u202f])(?=\d{3})")
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{(\d+)\}\s*\{(\d+)\}|(\d)\s*(\d))")
_POWER_OF_TEN = re.compile(
    r"(?<=\d) ?(?:\\times|\\cdot|\u00d7|\*|x) ?10(?:\^|\*\*)\{?(-?\d{1,9})\}?"
)

_DECIMAL = r"(?:\d+(?:,\d+)*(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][+-]?\d{1,9}\b)?"
# A sign, a currency, the whole part of a mixed number, and numbers between slashes: 3/4, but also
# 5/6/2020. What they mean is decided in `_meaning`.
_NUMBER = re.compile(
    rf"(?P<sign>-?)(?:\\?\$)?(?:(?P<whole>\d+(?:,\d{{3}})*) (?=\d+/\d))?"
    rf"(?P<parts>{_DECIMAL}(?:/\d+(?:\.\d+)?)*)"
)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}(?:\D.*)?")
_SCIENTIFIC = re.compile(r"(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")

_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BETWEEN_BOXES = re.compile(r"\W*(?:,|;|\\text\{ ?(?:and|or) ?\}|\band\b|\bor\b)\W*")
_SPACING = re.compile(r"\\(?:left|right|displaystyle|[!,;: ])|[\s$]")

Number = Fraction | tuple[str, str, int]


def last_answer(response: str) -> str | None:
    r"""The content of the last complete \boxed{...}, else the last number, else None.

    Without a complete box, a box that was cut off is no answer, whatever stands before it.
    """
    boxed, cut_off = last_box(response)
    return boxed if boxed is not None or cut_off else last_number(response)


def last_box(text: str) -> tuple[str | None, bool]:
    r"""The content of the last complete \boxed{...} or \fbox{...}, and whether one is cut off.

    Boxes with only a comma, "and" or "or" between them are one answer of several elements: they
    are given with commas between them. Of nested boxes the inner ones count.
    """
    boxes: list[tuple[int, int, int]] = []  # where the box starts, and its content starts and ends
    open_braces: list[tuple[int, int] | None] = []
    for token in _BOX_OR_BRACE.finditer(text):
        match token.group():
            case "{":
                open_braces.append(None)
            case "}":
                start = open_braces.pop() if open_braces else None
                if start is not None and not (boxes and boxes[-1][0] > start[0]):
                    boxes.append((*start, token.start()))
            case command if command.startswith(("\\boxed", "\\fbox")):
                open_braces.append((token.start(), token.end()))
    cut_off = any(brace is not None for brace in open_braces)
    if not boxes:
        return None, cut_off
    first = len(boxes) - 1
    while first > 0 and _adjacent(text, boxes[first - 1][2] + 1, boxes[first][0]):
        first -= 1
    contents = (text[start:end].strip() for _, start, end in boxes[first:])
    return ", ".join(content for content, _ in groupby(contents)), cut_off


def _adjacent(text: str, start: int, end: int) -> bool:
    return end - start < 40 and _BETWEEN_BOXES.fullmatch(text[start:end]) is not None


def last_number(text: str) -> str | None:
    r"""The last number of a text, without currency and thousands separators, or None.

    Read are -1,234.5 and its forms with a Unicode minus, .5, 1e3, 3 \times 10^5, 3/4, \frac{3}{4}
    and mixed numbers such as 1 3/4. Of a list such as 1,2 the last element counts.
    """
    last = None
    for last in _NUMBER.finditer(_plain(text)):  # noqa: B007
        pass
    return _meaning(last) if last else None


def number(text: str) -> Number | None:
    """The value of a text that is a number as a whole, exactly; None for any other text.

    Equal numbers have equal values of whatever size.
    """
    found = _NUMBER.fullmatch(_plain(text.strip()))
    if found is None:
        return None
    written = _meaning(found)
    # A list of numbers, or a date: only its last number was kept.
    if written.count("/") != found["parts"].count("/") or (
        "," in found["parts"] and not _GROUPED.fullmatch(found["parts"])
    ):
        return None
    sign, written = ("-", written[1:]) if written.startswith("-") else ("", written)
    whole, _, fraction = written.rpartition(" ")
    numerator, _, denominator = fraction.partition("/")
    value = _decimal(sign, numerator)
    if not denominator:
        return value
    below, more = _decimal("", denominator), _decimal(sign, whole or "0")
    if not (isinstance(value, Fraction) and isinstance(below, Fraction) and below):
        return None
    return value / below + more if isinstance(more, Fraction) else None


def same_answer(first: str, second: str) -> bool:
    r"""Whether two answers are the same number (5 and 5.0, 1/2 and \frac{1}{2}), or the same text
    but for spaces and dollar signs."""
    if first == second:
        return True
    return _key(first) == _key(second)


def _key(answer: str) -> Number | str:
    text = _SPACING.sub(" ", answer).strip()
    value = number(text)
    return value if value is not None else text.replace("dfrac", "frac").replace(" ", "")


def _plain(text: str) -> str:
    text = _SEPARATOR.sub(",", text.translate(_MINUS))
    text = _FRACTION.sub(_slashed, text)
    return _POWER_OF_TEN.sub(r"e\1", text)


def _slashed(fraction: re.Match[str]) -> str:
    numerator, denominator = (part for part in fraction.groups() if part is not None)
    # After a digit it is the fraction of a mixed number.
    before = fraction.string[fraction.start() - 1 : fraction.start()]
    return f"{' ' if before.isdigit() else ''}{numerator}/{denominator}"


def _meaning(found: re.Match[str]) -> str:
    """The number of a match: a fraction where there is one slash, else the last part."""
    *before, last = found["parts"].split("/")
    if len(before) == 1 and last.strip("0."):
        whole = f"{found['whole'].replace(',', '')} " if found["whole"] else ""
        return f"{found['sign']}{whole}{_ungrouped(before[0])}/{last}"
    sign = found["sign"] if not before else ""
    head, _, tail = last.rpartition(",")
    if head and not _GROUPED.fullmatch(last):
        return tail
    return sign + _ungrouped(last)


def _ungrouped(digits: str) -> str:
    return digits.replace(",", "")


def _decimal(sign: str, written: str) -> Number | None:
    found = _SCIENTIFIC.fullmatch(written)
    if found is None:
        return None
    whole, decimals, exponent = (part or "" for part in found.groups())
    digits = (whole + decimals).lstrip("0")
    power = int(exponent or 0) - len(decimals) + len(digits)
    digits = digits.rstrip("0")
    power -= len(digits)
    if not digits:
        return Fraction(0)
    if len(digits) + abs(power) > MAX_DIGITS:
        return (sign, digits, power)
    return Fraction(int(sign + digits)) * Fraction(10) ** power
