"""The answer a response ends in, as plain text. Judging whether it is right is not done here."""

from __future__ import annotations

import re

# -1,234.50: digits with commas between them, a sign and decimals if there are any.
_NUMBER = re.compile(r"-?\d(?:[\d,]*\d)?(?:\.\d+)?")


def last_answer(response: str) -> str | None:
    """The content of the last \\boxed{...}, else the last number, else None.

    A box that is never closed is no answer: the response was cut off in it.
    """
    box = response.rfind("\\boxed{")
    if box >= 0:
        return _braced(response, box + len("\\boxed{"))
    return last_number(response)


def last_number(text: str) -> str | None:
    """The last number of a text, without its thousands separators; None where there is none."""
    numbers = _NUMBER.findall(text)
    return numbers[-1].replace(",", "") if numbers else None


def _braced(text: str, start: int) -> str | None:
    # Braces nest: \boxed{\frac{1}{2}}.
    depth = 1
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end].strip()
    return None
