"""Mutated prompt files are read as they are or refused: a short form of the bench."""

import json

import pytest

from pipeline.inputs import json_values
from tests.bench.prompts.cases import case
from tests.bench.prompts.fuzz import run_chunk

CASES = 300


def findings(outcomes):
    return [outcome for outcome in outcomes if outcome[1] not in ("read", "refused")]


def test_no_file_ends_in_a_traceback_a_hang_or_a_silent_change():
    outcomes = run_chunk(seed=1, first=0, count=CASES)
    assert findings(outcomes) == []
    kinds = [kind for _, kind, _ in outcomes]
    assert min(kinds.count("read"), kinds.count("refused")) > 50


def test_cases_are_drawn_by_seed_and_number():
    assert [case(1, n).data for n in range(20)] == [case(1, n).data for n in range(20)]
    assert case(1, 0).data != case(2, 0).data


def _as_float(digits):
    return json_values.Number(float(digits))


FAULTS = {
    "the last of two keys wins": json.JSONDecoder(),
    "numbers lose their digits": json.JSONDecoder(
        object_pairs_hook=json_values._object, parse_float=_as_float, parse_int=_as_float
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reader_that_alters_values_is_found(monkeypatch, fault):
    monkeypatch.setattr(json_values, "DECODER", FAULTS[fault])
    found = {kind for _, kind, _ in findings(run_chunk(seed=1, first=0, count=CASES))}
    assert "silent change" in found
