"""Ways in which a file of a run folder may be damaged."""

from __future__ import annotations

DAMAGES = {
    "empty": lambda whole: b"",
    "binary": lambda whole: b"\x80\x00\xff\xfe" * 20,
    "a list": lambda whole: b"[1, 2]",
    "a number": lambda whole: b"7",
    "cut": lambda whole: whole[: len(whole) // 2],
    "nested": lambda whole: b"[" * 200_000,
    "another object": lambda whole: b'{"measurements": [3], "kind": "ValueError"}',
}
