"""Settings that must hold before torch and transformers are imported, and tiny models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.core.tiny import Family

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no clock: other work shares the machine.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Qwen2 models that share one vocabulary, without a chat template."""
    from tests.core import tiny  # noqa: PLC0415 - imports torch

    return tiny.plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A Llama LM and Qwen2 reward models: other shapes, other vocabularies, a chat template."""
    from tests.core import tiny  # noqa: PLC0415 - imports torch

    return tiny.grouped(tmp_path_factory.mktemp("grouped"))


@pytest.fixture(scope="session", params=["plain", "grouped"])
def family(request: pytest.FixtureRequest) -> Family:
    """Each family in turn."""
    return request.getfixturevalue(request.param)
