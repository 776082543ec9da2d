r"""One spelling for LaTeX answers, and the parts of an answer. Texts in, texts out.

math-verify reads a part of some answers only: of $3\sqrt{13}$ the 3, of 11\sqrt5+11 nothing. So
answers are taken apart here, and it is given single expressions in full braces.
"""

from __future__ import annotations

import re

_SYMBOLS = {
    "\u2212": "-",
    "\u00d7": r"\times ",
    "\u00b7": r"\cdot ",
    "\u00f7": "/",
    "\u03c0": r"\pi ",
    "\u221e": r"\infty ",
    "\u222a": r"\cup ",
    "\u00b0": r"^\circ ",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u2208": r"\in ",
    "\u00b1": r"\pm ",
    "\u00b2": "^2",
    "\u00b3": "^3",
    "\u20ac": "",
    "\u00a3": "",
}
_TRANSLATED = str.maketrans(_SYMBOLS)
# A dollar sign in front of all is a unit.
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|[bB]igg?[lr]?|quad|qquad|limits)(?![A-Za-z])"
    r"|(?<!\\)\\[!;: ]|~|(?<!\\)\$|(?<!^)\\\$"
)
_TEXT = r"\\(?:mathrm|mbox|textbf|textit|textrm|mathbf|operatorname|hbox)\s*\{"
_DEGREE = r"\\(?:degree|text\s*\{\s*degrees?\s*\})|\^\s*\{?\s*\\circ\s*\}?|\bdegrees?\b"
_REPLACED = (
    (re.compile(r"\\(?:boxed|fbox)\s*(?=\{)"), ""),
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!\s*)(?=\d{3})"), ","),
    (_DROPPED, ""),
    (re.compile(r"(?<!\\)\\,"), " "),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(_TEXT), r"\\text{"),
    (re.compile(r",?\s*\\text\s*\{\s*(?:and|or)\s*\}\s*|,?\s+(?:and|or)\s+"), ", "),
    (re.compile(_DEGREE), r"\\degree "),
    (re.compile(r"\\(?:leq|leqslant)(?![A-Za-z])"), r"\\le "),
    (re.compile(r"\\(?:geq|geqslant)(?![A-Za-z])"), r"\\ge "),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\langle(?![A-Za-z])"), "("),
    (re.compile(r"\\rangle(?![A-Za-z])"), ")"),
    (re.compile(r"(?<![A-Za-z\\])(?:infinity|inf)(?![A-Za-z])"), r"\\infty "),
    (re.compile(r"(?<![A-Za-z\\])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"\u221a\s*(\d+|\([^()]*\))"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![A-Za-z\\])(pi)(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\^\s*\((-?[\w/]+)\)"), r"^{\1}"),
    (re.compile(r"(?<!\\)\s+"), " "),
)  # fmt: skip
_MIXED = re.compile(r"(?<![\d.}])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"
MAX_DEPTH = 30


class Malformed(ValueError):
    """Brackets that are not closed, or nested too deeply."""


def normalised(text: str) -> str:
    """The text in one spelling: full arguments, no spacing commands, mixed numbers as fractions.

    Raises Malformed.
    """
    text = text.translate(_TRANSLATED)
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    text = _MIXED.sub(_improper, _full_arguments(text.strip()))
    return text.strip().rstrip(".;,:").strip()


def _improper(mixed: re.Match[str]) -> str:
    whole, above, below = mixed.groups()
    if len(mixed.group()) > 60 or int(above) >= int(below):
        return mixed.group()
    return rf"\frac{{{int(whole) * int(below) + int(above)}}}{{{below}}}"


def _full_arguments(text: str, depth: int = 0) -> str:
    r"""Braces around every argument: \frac43 and \frac{270}7, \sqrt2 and \sqrt[3]2, x^10."""
    if depth > MAX_DEPTH:
        raise Malformed("nested too deeply")
    found = re.compile(r"\\frac(?![A-Za-z])|\\sqrt(?![A-Za-z])(?:\s*\[[^\[\]]*\])?")
    pieces, end = [], 0
    while command := found.search(text, end):
        pieces += [text[end : command.start()], command.group().replace(" ", "")]
        end = command.end()
        for _ in range(2 if command.group() == r"\frac" else 1):
            argument, end = _argument(text, end)
            pieces.append(f"{{{_full_arguments(argument, depth + 1)}}}")
    return "".join([*pieces, text[end:]])


def _argument(text: str, start: int) -> tuple[str, int]:
    while start < len(text) and text[start] == " ":
        start += 1
    if start == len(text):
        raise Malformed("an argument is missing")
    if text[start] == "{":
        end = closing(text, start)
        return text[start + 1 : end], end + 1
    command = _COMMAND.match(text, start)
    end = command.end() if command else start + 1
    return text[start:end], end


def closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed. Raises Malformed. ( may end in ]."""
    depth = 0
    position = start
    while position < len(text):
        if text[position] == "\\":
            position += 1  # \{ and \} are counted as brackets too
        character = text[position : position + 1]
        if character and character in _OPENING:
            depth += 1
        elif character and character in _CLOSING:
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise Malformed("a bracket is not closed")


def split(text: str, separators: str) -> list[str]:
    """The parts of a text between separators (a regular expression) outside of all brackets.

    Raises Malformed.
    """
    return cut(text, separators)[0]


def cut(text: str, separators: str) -> tuple[list[str], list[str]]:
    """The parts as `split` gives them, and the separators between them. Raises Malformed."""
    tokens = re.compile(
        rf"(?P<separator>{separators})|\\?[(\[{{]|\\?[)\]}}]|\\[A-Za-z]+|\\.", re.DOTALL
    )
    parts, found, depth, start = [], [], 0, 0
    for token in tokens.finditer(text):
        if token["separator"] is not None:
            if depth == 0:
                parts.append(text[start : token.start()].strip())
                found.append(token.group())
                start = token.end()
        elif token.group()[-1] in _OPENING:
            depth += 1
        elif token.group()[-1] in _CLOSING:
            depth -= 1
            if depth < 0:
                raise Malformed("a bracket is not opened")
    if depth:
        raise Malformed("a bracket is not closed")
    return [*parts, text[start:].strip()], found


def enclosed(text: str) -> tuple[str, str, str] | None:
    """Opening bracket, content and closing bracket of a text that brackets enclose, else None."""
    start = 1 if text.startswith("\\{") else 0
    if text[start : start + 1] not in tuple(_OPENING):
        return None
    end = closing(text, start)
    if end != len(text) - 1:
        return None
    content = text[start + 1 : end]
    return text[: start + 1], content.removesuffix("\\").strip(), text[end]


def signs(text: str) -> list[str]:
    r"""The two expressions of one with \pm, else the expression itself."""
    if r"\pm" not in text and r"\mp" not in text:
        return [text]
    return [
        re.sub(r"\\pm(?![A-Za-z])", above, re.sub(r"\\mp(?![A-Za-z])", below, text))
        for above, below in ("+-", "-+")
    ]


_MATRIX = re.compile(
    r"\\begin\{(?P<kind>[pbBvV]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?(?P<cells>.*)"
    r"\\end\{(?P=kind)\}",
    re.DOTALL,
)


def matrix(text: str) -> tuple[str, list[list[str]]] | None:
    """The kind of a matrix ("v": a determinant, "": others) and its cells in rows."""
    # array and matrix get their brackets from outside.
    around = enclosed(text)
    found = _MATRIX.fullmatch(around[1] if around else text)
    if found is None or r"\begin" in found["cells"]:
        return None
    rows = re.split(r"\\\\(?:\[[^\[\]]*\])?", found["cells"].strip().removesuffix(r"\\"))
    kind = "v" if found["kind"] in ("vmatrix", "Vmatrix") else ""
    return kind, [[cell.strip() for cell in row.split("&")] for row in rows]
