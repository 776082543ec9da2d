"""Whether two answers are the same mathematics. Runs in the child process of `math_verify`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from nabla_core.methods.answers import number
from pipeline.grading import latex, relations, symbols
from pipeline.grading.units import Unit, without_unit

# A longer answer is compared as a text: a model that repeats itself gives such answers.
MAX_LENGTH = 2000
MAX_ELEMENTS = 64
MAX_DEPTH = 12

_NUMERAL = re.compile(r"([0-9A-F]+)_\{?(\d+)\}?")
_WORD = re.compile(r"[A-Za-z]{4,}|(?:\\[A-Za-z]+ ?\{?)?[A-Z]{2,}\}?")
_CHOICE = re.compile(r"\(([A-E])\)(?![^()]*\([A-E]\)).*")
_LETTER = re.compile(r"\(?([A-Za-z])\)?")
_PLAIN_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")


def same(expected: str, given: str) -> bool:
    """Whether an answer is the expected one. An answer that cannot be read is the expected one only
    if it is the same text."""
    if expected.strip() == given.strip():
        return True
    values = number(expected), number(given)
    if None not in values:
        return values[0] == values[1]
    if max(len(expected), len(given)) > MAX_LENGTH:
        return False
    try:
        return _same(latex.normalised(expected), latex.normalised(given))
    except (latex.Malformed, RecursionError):
        return False


def unreadable(expected: str) -> str | None:
    """Why an expected answer can be compared with no other, None if it can be."""
    if not expected.strip():
        return "is empty"
    if number(expected) is not None:
        return None
    if len(expected) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    try:
        latex.split(latex.normalised(expected), "[,;]")
    except latex.Malformed as error:
        return f"cannot be read: {error}"
    return None


def _same(expected: str, given: str, depth: int = 0) -> bool:
    if _tight(expected) == _tight(given) != "":
        return True
    if depth > MAX_DEPTH or not expected or not given:
        return False
    (first, unit), (second, other) = without_unit(expected), without_unit(given)
    values = number(first), number(second)
    if None not in values:
        return _same_quantity(*values, unit, other)  # type: ignore[arg-type]
    if not unit.agrees(other):
        return False
    elements = _elements(first), _elements(second)
    if max(map(len, elements)) > 1:
        return _same_elements(*elements, depth)
    # The unit of a text is the text.
    return _same_element(first, second, depth)


def _same_quantity(expected: Fraction, given: Fraction, unit: Unit, other: Unit) -> bool:
    if not unit.agrees(other):
        return False
    if unit.name != "%" and other.name == "%":
        # "What percentage?" 50 or 50 %. But .5 % is not .5.
        return given / 100 == expected or (given == expected and abs(given) >= 1)
    if unit.name == "%" and not other.name:
        return given in (expected, expected / 100)
    return expected == given


def _elements(text: str) -> list[str]:
    r"""The elements of a list or set, those of \pm among them."""
    around = latex.enclosed(text)
    if around and around[0] in ("\\{", "{"):
        return _elements(around[1])
    parts = [sign for part in latex.split(text, "[,;]") for sign in latex.signs(part)]
    return [part for part in parts if part]


def _same_elements(expected: Sequence[str], given: Sequence[str], depth: int) -> bool:
    """Whether each element of either is an element of the other, in any order."""
    if max(len(expected), len(given)) > MAX_ELEMENTS:
        return False
    missing = list(given)
    for element in expected:
        found = [k for k, other in enumerate(given) if _same(element, other, depth + 1)]
        if not found:
            return False
        missing = [other for other in missing if other not in [given[k] for k in found]]
    return not missing


def _same_element(expected: str, given: str, depth: int) -> bool:
    for compare in (_relations, _brackets, _unions, _matrices, _numerals, _texts):
        verdict = compare(expected, given, depth)
        if verdict is not None:
            return verdict
    return symbols.equal(expected, given)


def _relations(expected: str, given: str, depth: int) -> bool | None:
    return relations.compare(expected, given, lambda a, b: _same(a, b, depth + 1))


def _brackets(expected: str, given: str, depth: int) -> bool | None:
    """Points, vectors and intervals: the same brackets around the same elements in order."""
    around = latex.enclosed(expected), latex.enclosed(given)
    inside = [latex.split(a[1], "[,;]") if a and r"\begin" not in a[1] else [""] for a in around]
    if max(map(len, inside)) > 1:
        (first, second) = around
        if first is None or second is None or first[::2] != second[::2]:
            return False
        return len(inside[0]) == len(inside[1]) and all(
            _same(a, b, depth + 1) for a, b in zip(*inside, strict=True)
        )
    # Brackets around a single expression mean nothing, but [x] is not x.
    for text, other, flipped in ((around[0], given, False), (around[1], expected, True)):
        if (
            text
            and text[0] in "({"
            and text[2] in ")}"
            and r"\begin" not in text[1]
            and not (_LETTER.fullmatch(text[1]))
        ):
            pair = (other, text[1]) if flipped else (text[1], other)
            return _same(*pair, depth + 1)
    return None


def _unions(expected: str, given: str, depth: int) -> bool | None:
    first, second = (latex.split(text, r"\\cup(?![A-Za-z])") for text in (expected, given))
    if len(first) == len(second) == 1:
        return None
    return len(first) == len(second) and _same_elements(first, second, depth)


def _matrices(expected: str, given: str, depth: int) -> bool | None:
    first, second = latex.matrix(expected), latex.matrix(given)
    if first is None or second is None:
        return False if first or second else None
    shapes = [[len(row) for row in cells] for _, cells in (first, second)]
    if first[0] != second[0] or shapes[0] != shapes[1]:
        return False
    return all(
        _same(a, b, depth + 1)
        for rows in zip(first[1], second[1], strict=True)
        for a, b in zip(*rows, strict=True)
    )


def _numerals(expected: str, given: str, depth: int) -> bool | None:
    """Numbers in a base, 52_8: the digits and the base are asked for, not the value."""
    numerals = _NUMERAL.fullmatch(_tight(expected)), _NUMERAL.fullmatch(_tight(given))
    if not any(numerals):
        return None
    return all(numerals) and numerals[0].groups() == numerals[1].groups()  # type: ignore[union-attr]


def _texts(expected: str, given: str, depth: int) -> bool | None:
    """Words, and the letters of choices: (C), C and C) are one."""
    first, second = _plain_text(expected), _plain_text(given)
    letters = _LETTER.fullmatch(first), _LETTER.fullmatch(second)
    if all(letters):
        return letters[0][1] == letters[1][1]  # type: ignore[index]
    # The letter and the text of a choice: (B) 12.
    if letters[0] and (choice := _CHOICE.fullmatch(second)):
        return letters[0][1] == choice[1]
    if r"\text" not in expected + given and not (
        _PLAIN_WORDS.fullmatch(first) and _PLAIN_WORDS.fullmatch(second) and " " in first + second
    ):
        # ab is a product and equal to ba. Longer words are none, nor are points: ABC is not ACB.
        is_word = [_WORD.fullmatch(text) is not None for text in (first, second)]
        if not all(is_word):
            return None
    return _words(first) == _words(second) != ""


def _plain_text(text: str) -> str:
    return re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text).strip()


def _words(text: str) -> str:
    words = text.casefold().replace("-", " ").split()
    return "".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


def _tight(text: str) -> str:
    return text.replace(" ", "")
