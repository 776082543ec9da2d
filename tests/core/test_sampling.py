"""Choosing a token: temperature, top-k, top-p and the inverse CDF."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nabla_core.config import Sampling
from nabla_core.sampling import draw, filtered_probabilities
from tests.oracle.literal import sample_token


def one(logits: list[float], sampling: Sampling, u: float) -> int:
    return int(draw(torch.tensor([logits]), sampling, torch.tensor([u], dtype=torch.float64)))


@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30, unique=True),
    temperature=st.sampled_from([0.0, 0.3, 0.6, 1.0, 2.0]),
    top_k=st.integers(0, 32),
    top_p=st.floats(0.05, 0.999) | st.just(1.0),
    u=st.floats(1e-9, 1 - 1e-9),
)
@settings(max_examples=300)
def test_draw_equals_the_literal_sampler(
    logits: list[float], temperature: float, top_k: int, top_p: float, u: float
):
    row = torch.tensor(logits)
    nearby = {
        sample_token(row, Sampling(temperature, top_p if top_p == 1 else top_p + d, top_k), u + d)
        for d in (-1e-10, 0, 1e-10)
    }
    # Where the literal sampler itself wavers, only rounding decides.
    assume(len(nearby) == 1)
    assert {one(logits, Sampling(temperature, top_p, top_k), u)} == nearby


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), [0.1, 0.2, 0.3, 0.4]),
        (Sampling(0.5), [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        (Sampling(1.0, top_k=2), [0, 0, 3 / 7, 4 / 7]),
        # Top-k rescales to 3/7 and 4/7 before top-p counts.
        (Sampling(1.0, top_p=0.5, top_k=2), [0, 0, 0, 1]),
        (Sampling(1.0, top_p=0.75), [0, 2 / 9, 3 / 9, 4 / 9]),
        (Sampling(1.0, top_p=0.39), [0, 0, 0, 1]),
        (Sampling(0), [0, 0, 0, 1]),
    ],
)
def test_many_uniforms_give_the_filtered_distribution(sampling: Sampling, expected: list[float]):
    n = 9000
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(n, 4)
    uniforms = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    counts = torch.bincount(draw(logits, sampling, uniforms), minlength=4).tolist()
    # An even grid of uniforms leaves at most one count of rounding on each side of a token.
    assert counts == pytest.approx([n * p for p in expected], abs=2)


def test_rows_are_drawn_independently():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    uniforms = torch.tensor([0.0, 0.2, 0.5, 0.9, 0.999999], dtype=torch.float64)
    together = draw(logits, Sampling(0.7, 0.9, 5), uniforms).tolist()
    alone = [
        one(row.tolist(), Sampling(0.7, 0.9, 5), u)
        for row, u in zip(logits, uniforms.tolist(), strict=True)
    ]
    assert together == alone


def test_temperature_zero_takes_the_argmax_whatever_the_uniform():
    logits = torch.tensor([[0.0, 2.0, 1.0]] * 3)
    uniforms = torch.tensor([0.0, 0.5, 0.99], dtype=torch.float64)
    assert draw(logits, Sampling(0, top_p=0.1, top_k=1), uniforms).tolist() == [1, 1, 1]


@pytest.mark.parametrize("u", [0.0, math.nextafter(1.0, 0.0)])
def test_the_ends_of_the_unit_interval_never_pick_an_impossible_token(u: float):
    minus = float("-inf")
    assert one([minus, 0.0, 1.0, minus], Sampling(1.0), u) == (1 if u == 0 else 2)
    assert one([minus, 0.0, 3.0, 1.0, minus], Sampling(1.0, top_k=1), u) == 2


def test_near_equal_logits_keep_their_place():
    """Batch noise that reorders two tokens must not move the draws of others."""
    a = [1.0, 0.5, 0.5 + 1e-6, 0.2]
    b = [1.0, 0.5 + 1e-6, 0.5, 0.2]
    grid = [n / 100 for n in range(100)]
    same = [one(a, Sampling(1.0), u) == one(b, Sampling(1.0), u) for u in grid]
    assert all(same)


def test_top_p_keeps_at_least_one_token():
    kept = filtered_probabilities(torch.tensor([[0.0, 0.0, 5.0]]), Sampling(1.0, top_p=1e-6))
    assert (kept > 0).tolist() == [[False, False, True]]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, float], named: str):
    with pytest.raises(ValueError, match=named):
        Sampling(**settings)  # type: ignore[arg-type]
