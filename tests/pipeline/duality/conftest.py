"""The enumerated models, tabulated once for all tests."""

import pytest

from pipeline.duality.tokens.enumerable import EnumeratedModels, random_models


@pytest.fixture(scope="session")
def models() -> EnumeratedModels:
    return random_models(0)
