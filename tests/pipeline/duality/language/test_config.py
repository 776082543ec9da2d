"""Settings that make no sense are refused."""

import pytest

from pipeline.duality.language.config import LanguageConfig, RlooConfig


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"language\.betas must be positive"):
        LanguageConfig(betas=(1.0, 0.0))
    with pytest.raises(ValueError, match="group_size must be at least 2"):
        RlooConfig(group_size=1)
