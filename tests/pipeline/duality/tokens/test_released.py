"""The released settings, and which tokens DTO can change."""

from dataclasses import replace

import pytest

from nabla_core import DTO
from pipeline.duality.findings import PartResults, failed_self_checks
from pipeline.duality.tokens.dto_law import joint_descent
from pipeline.duality.tokens.enumerable import (
    EnumeratedModels,
)
from pipeline.duality.tokens.released import reach, released


def test_the_published_descent_changes_no_token_out_of_its_reach(models: EnumeratedModels):
    descent = joint_descent(models, DTO(), 1.0, 1e-3)
    results = PartResults("tokens")
    reach(results, models, "DTO published", 0, descent)
    found = {f.check: f.value for f in results.findings}
    assert failed_self_checks(results.findings) == []
    assert found["largest move of a logit"] == pytest.approx(0.1145, abs=0.005)
    assert 0 < found["share of tokens changed"] < found["share of tokens within reach"]
    # A reach that is understated is noticed.
    reach(
        results, models, "DTO published", 0, replace(descent, largest_move=descent.largest_move / 4)
    )
    assert [f.check for f in failed_self_checks(results.findings)] == [
        "share of tokens changed out of reach"
    ]


def test_every_released_setting_is_one_the_enumeration_covers(models: EnumeratedModels):
    names = [setting.name for setting in released()]
    assert len(set(names)) == len(names) == 6
