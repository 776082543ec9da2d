"""Text of others in messages: no control character reaches a terminal, no line is forged."""

from __future__ import annotations

import re
from collections.abc import Iterable

# C0 and C1 controls, DEL, line and paragraph separators, marks that turn the direction of writing,
# and halves of surrogate pairs, which no terminal can encode. Tab and newline are not among them.
_RAW = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
)
_CONTROLS = re.compile(f"[{_RAW}]")
_ALL_CONTROLS = re.compile(f"[\t\n{_RAW}]")


def visible(text: str) -> str:
    """The text on one line: control characters and newlines as escapes (`\\x1b`, `\\n`)."""
    return _ALL_CONTROLS.sub(_escaped, text)


def visible_lines(text: str) -> str:
    """The text with its newlines and tabs, and all other control characters as escapes."""
    return _CONTROLS.sub(_escaped, text)


def shown(text: str, length: int = 60) -> str:
    """A text of others in quotes, on one line, cut where it is long."""
    cut = text if len(text) <= length else f"{text[:length]}..."
    return f"'{visible(cut)}'"


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names of others, and how many more there are than `most`."""
    ordered = list(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(visible(name[:100]) for name in ordered[:most]) + more


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")
