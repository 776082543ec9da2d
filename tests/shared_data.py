"""Real prompts with answers beside the repository, in ../shared/data. They are not part of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "data"


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of one file. Skips the test where the file is missing."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"needs ../shared/data/{name}, which is not part of the repository")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
