"""Data as classic scripts: the only thing that a page opened from disk may load as needed.

A script calls `nabla.load(name, data)`; data are gzip in base64, which browsers unpack by
themselves. Texts of others are data in them, never code.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping
from typing import Any

# Level 6 takes twice the time and saves a tenth.
_LEVEL = 4


def json_script(name: str, value: Any) -> bytes:
    """The script of a value."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:  # a number that is none, somewhere
        text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    return script(name, text.encode())


def script(name: str, data: bytes) -> bytes:
    """The script of some bytes."""
    # mtime 0: the same rows give the same files.
    packed = base64.b64encode(gzip.compress(data, _LEVEL, mtime=0))
    return b'nabla.load("' + name.encode() + b'","' + packed + b'");\n'


def plain(value: Any) -> Any:
    """A value without what JSON cannot hold: numbers that are none become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
