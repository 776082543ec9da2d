r"""Where the answer stands in a response, and in an expected answer. Texts in, texts out.

A response gives its answer in a \boxed{...}, else after "####" at its end, else after "answer is"
or "answer:", else in the last formula, else as its last number. A part of a formula is never taken
for an answer: the 13 of $3\sqrt{13}$ is none.
"""

from __future__ import annotations

import re

from nabla_core.methods.answers import last_box, last_number

_MARKED = re.compile(r"####([^\n#]+)")
_ANNOUNCED = re.compile(
    r"\b(?:answers?|solutions?|result)\b(?: is| are| was|\**:|\s*=)"
    r"(?: \w+(?: \w+)?:)?(?: (?:therefore|thus|then|simply|just)\b)?",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\$\$(?P<display>[^$]+)\$\$|\\\[(?P<bracket>(?:[^\\]|\\(?!\]))+)\\\]"
    r"|\\\((?P<paren>(?:[^\\\n]|\\(?!\)))+)\\\)|(?<![\\$])\$(?P<inline>(?:[^$\n\\]|\\.)+)\$"
)
_BETWEEN_FORMULAS = re.compile(r"\s*(?:,|;|,?\s*(?:and|or))\s*")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
# Words inside of these are part of a formula.
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textbf|operatorname|begin|end)\s*\{[^{}]*\}")
# A number with one of these in its word is a part of a formula: \sqrt{13}, x^2, 5x, 2\pi.
_OF_A_FORMULA = re.compile(r"[\\^_√π]|\d[A-Za-z]|[A-Za-z]\d")
# A point, an interval or a list at the end of a sentence: the solution is (1, 2).
_POINT_AT_END = re.compile(r"([(\[][^()\[\]\n]*[)\]])[^\d\n]{0,200}$")
MAX_LENGTH = 2000


def final_answer(response: str) -> str | None:
    """The answer of a response, None if it gives none."""
    boxed, cut_off = last_box(response)
    if boxed is not None or cut_off:
        return boxed
    text = response.strip()
    marked = _MARKED.findall(text[-MAX_LENGTH:])
    if marked and text.endswith(marked[-1]):
        return _bare(marked[-1])
    announced = None
    for announced in _ANNOUNCED.finditer(text):  # noqa: B007
        pass
    if announced:
        rest = text[announced.end() :].strip(" *:\n").split("\n", 1)[0]
        if found := _of_sentence(rest[:MAX_LENGTH]):
            return found
    return _of_sentence(text.rsplit("\n", 1)[-1][-MAX_LENGTH:]) or _last(text)


def expected_answer(gold: str) -> str:
    r"""The answer in an expected answer, which may be a solution with \boxed{...} or "####"."""
    boxed, _ = last_box(gold)
    if boxed is not None:
        return boxed
    marked = _MARKED.findall(gold)
    if marked:
        return _bare(marked[-1])
    if "\n" in gold.strip() or _ANNOUNCED.search(gold):
        return final_answer(gold) or _bare(gold)
    return _bare(gold)


def _of_sentence(text: str) -> str | None:
    """The answer of a sentence: a formula, or all of it if it is not made of words."""
    formula = _last_formula(text)
    if formula is not None:
        return formula
    bare = _bare(text)
    words = _WORD.findall(_TEXT.sub("", bare))
    if len(words) <= 1 and "$" not in bare.replace("\\$", "").lstrip("-$") and ":" not in bare:
        return bare or None
    return _last(text)


def _last_formula(text: str) -> str | None:
    """The last formula, with those before it that are of the same list: $1$, $2$ and $3$."""
    found = [f for f in _FORMULA.finditer(text) if _is_formula(f)]
    if not found or re.search(r"\d", text[found[-1].end() :]):
        return None
    first = len(found) - 1
    while first > 0 and _BETWEEN_FORMULAS.fullmatch(
        text, found[first - 1].end(), found[first].start()
    ):
        first -= 1
    contents = [next(g for g in f.groups() if g is not None).strip() for f in found[first:]]
    return ", ".join(content.rstrip(".,") for content in contents)


def _is_formula(found: re.Match[str]) -> bool:
    """Whether dollar signs enclose a formula, and not the text between two prices."""
    content = found["inline"]
    if content is None:
        return True
    return (
        content == content.strip()
        and content[-1] not in "+-*/=(<>,."
        and content.count("(") + content.count("[") == content.count(")") + content.count("]")
        and not _WORD.search(_TEXT.sub("", content))
    )


def _last(text: str) -> str | None:
    """The last number; the word it stands in, if that is a formula."""
    end = text[-MAX_LENGTH:]
    point = _POINT_AT_END.search(end)
    if point and re.search(r"\d", point[1]) and "," in point[1] and not _WORD.search(point[1]):
        return point[1]
    word = next((w for w in reversed(end.split()) if re.search(r"\d", w)), None)
    if word is not None and _OF_A_FORMULA.search(word) and last_number(word) == last_number(text):
        return _bare(word)
    number = last_number(text)
    return f"{number}%" if number and word and word.rstrip(".,").endswith(f"{number}%") else number


def _bare(text: str) -> str:
    text = text.strip().strip("*`").strip()
    return text[:-1].rstrip() if text.endswith(".") else text
