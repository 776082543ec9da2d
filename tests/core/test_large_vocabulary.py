"""Draws from large vocabularies against the law, word for word."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nabla_core import large_vocabulary
from nabla_core.config import Sampling
from nabla_core.errors import NonFiniteError
from nabla_core.large_vocabulary import LARGE, OPEN, blocks_of, draw_open, nucleus_threshold
from nabla_core.sampling import draw, filtered_probabilities
from tests.core.literal_draw import literal_draw, literal_probabilities, undecided

# Rounding in float64 decides nothing further than this from an edge.
ROUNDING = 1e-12
MINUS = float("-inf")
SAMPLINGS = [
    Sampling(0.6, 0.95),
    Sampling(1.0),
    Sampling(0.3, 0.5),
    Sampling(1.0, 1.0, 5),
    Sampling(0.8, 0.9, 50),
    Sampling(1.0, 0.999, 300),
    Sampling(1.5, 0.9999),
    Sampling(0.7, 1e-6),
    Sampling(1.0, 1.0, 1),
    Sampling(0),
]


def opened(logits: Tensor, how: Sampling, uniforms: Tensor) -> Tensor:
    """What the shortlists and block sums draw, `OPEN` where they leave it open."""
    blocks = blocks_of(logits)
    return draw_open(blocks, blocks.amax(-1), how, uniforms)


@st.composite
def logit_rows(draw_from: st.DrawFn) -> Tensor:
    """4 rows: flat or peaked, continuous or of a few values (ties), with some ids at -inf."""
    size = draw_from(st.sampled_from([LARGE, LARGE + 1, 5000, 3 * LARGE + 63]))
    seed = draw_from(st.integers(0, 2**32))
    generator = torch.Generator().manual_seed(seed)
    logits = draw_from(st.sampled_from([0.0, 0.3, 3.0, 12.0])) * torch.randn(
        4, size, generator=generator
    )
    if draw_from(st.booleans()):
        logits = (logits * 2).round() / 2
    if draw_from(st.booleans()):
        gap = torch.rand(4, size, generator=generator) < 0.5
        gap[:, draw_from(st.integers(0, size - 1))] = False
        logits = logits.masked_fill(gap, MINUS)
    if draw_from(st.booleans()):  # one id has nearly everything
        logits[:, draw_from(st.sampled_from([0, 63, 64, size - 1]))] = 60.0
    return logits


@given(logit_rows(), st.sampled_from(SAMPLINGS), st.lists(st.floats(0, 1 - 2**-53), min_size=4))
@settings(max_examples=40, deadline=None)
def test_a_draw_is_that_of_the_law(logits: Tensor, how: Sampling, numbers: list[float]):
    uniforms = torch.tensor(numbers[:4], dtype=torch.float64)
    if how.temperature:
        same = ~undecided(logits, how, uniforms, ROUNDING)
    else:
        same = torch.ones(4, dtype=torch.bool)
    drawn, expected = draw(logits, how, uniforms), literal_draw(logits, how, uniforms)
    assert drawn[same].tolist() == expected[same].tolist()
    assert logits.gather(-1, drawn[:, None]).isfinite().all()


@given(logit_rows(), st.sampled_from([s for s in SAMPLINGS if s.temperature]))
@settings(max_examples=20, deadline=None)
def test_the_kept_tokens_are_those_of_the_law(logits: Tensor, how: Sampling):
    kept = filtered_probabilities(logits, how) > 0
    literal = literal_probabilities(logits, how) > 0
    for row, expected, mine in zip(logits, literal, kept, strict=True):
        if expected.equal(mine):
            continue
        # Only where the mass of top-p falls on an edge but for rounding.
        near = {
            tuple(literal_probabilities(row[None], Sampling(how.temperature, p, how.top_k))[0] > 0)
            for p in (how.top_p - ROUNDING, how.top_p + ROUNDING)
        }
        assert tuple(mine) in near


def test_most_draws_of_a_language_model_are_made_without_the_whole_distribution():
    """Of peaked distributions, as language models have, the float32 sums decide."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(16, 49_152, generator=generator)
    likely = torch.rand(16, 49_152, generator=generator)
    logits += (likely < 3e-4) * (12.0 + 1e4 * likely)
    uniforms = torch.rand(16, dtype=torch.float64, generator=generator)
    for how in (Sampling(0.6, 0.95), Sampling(0.7), Sampling(1.0, 1.0, 50), Sampling(0.7, 0.9, 20)):
        drawn = opened(logits, how, uniforms)
        decided = drawn != OPEN
        assert decided.sum() >= 15
        assert drawn[decided].tolist() == literal_draw(logits, how, uniforms)[decided].tolist()


def test_what_float32_leaves_open_is_drawn_in_float64(monkeypatch: pytest.MonkeyPatch):
    """Edges nearer to the target than float32 sums are sure of."""
    logits = torch.randn(1, LARGE, generator=torch.Generator().manual_seed(2)).expand(200, LARGE)
    edges = literal_probabilities(logits[:1], Sampling(1.0))[0].cumsum(-1)
    # A hair below and above a hundred edges.
    places = torch.arange(20, 4020, 40)
    uniforms = torch.cat([edges[places] - 1e-10, edges[places] + 1e-10])
    assert (opened(logits, Sampling(1.0), uniforms) == OPEN).all()
    assert draw(logits, Sampling(1.0), uniforms).tolist() == [*places.tolist(), *(places + 1)]
    # So near, float32 sums by themselves are wrong at times: the bound is needed.
    monkeypatch.setattr(large_vocabulary, "UNSURE", 0.0)
    assert draw(logits, Sampling(1.0), uniforms).tolist() != [*places.tolist(), *(places + 1)]


def test_the_mass_of_top_p_at_an_edge_is_decided_in_float64():
    """8 tokens of an eighth: .75 is reached by 6 of them, and a hair more needs the seventh."""
    logits = torch.full((2, 2 * LARGE), MINUS)
    logits[:, 7::1000] = torch.arange(9.0) * 1e-6
    uniforms = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    for count in range(1, 9):
        for hair, kept in ((-1e-9, count), (1e-9, count + 1)):
            p = float(
                literal_probabilities(logits[:1], Sampling(1.0)).sort().values[0, -count:].sum()
            )
            how = Sampling(1.0, p + hair)
            first = 7 + 1000 * (9 - kept)
            assert draw(logits, how, uniforms).tolist() == [first, 8007]


@pytest.mark.parametrize("size", [1, 2, 63, 64, LARGE - 1, LARGE, LARGE + 1])
def test_the_largest_logit_is_the_first_of_equals(size: int):
    logits = torch.zeros(3, size)
    logits[1, size // 2 :] = 1.0
    logits[2, -1] = 2.0
    assert draw(logits, Sampling(0), torch.zeros(3, dtype=torch.float64)).tolist() == [
        0,
        size // 2,
        size - 1,
    ]


@pytest.mark.parametrize("how", SAMPLINGS, ids=str)
def test_equal_logits_are_drawn_by_the_uniform_alone(how: Sampling):
    """All tie with the last kept one, so all are kept, whatever top-k and top-p say."""
    size = 10_000
    uniforms = torch.tensor([0.0, 0.25004, 0.50004, 0.99999], dtype=torch.float64)
    drawn = draw(torch.zeros(4, size), how, uniforms).tolist()
    assert drawn == ([0, 2500, 5000, 9999] if how.temperature else [0] * 4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_no_distribution_is_refused(value: float):
    logits = torch.zeros(2, LARGE)
    logits[1, 17] = value
    with pytest.raises(NonFiniteError):
        draw(logits, Sampling(0.6, 0.95), torch.zeros(2, dtype=torch.float64))


def test_a_row_is_drawn_as_it_is_alone():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(9, 3 * LARGE, generator=generator) * torch.arange(9)[:, None]
    uniforms = torch.rand(9, dtype=torch.float64, generator=generator)
    for how in SAMPLINGS:
        alone = [int(draw(logits[i : i + 1], how, uniforms[i : i + 1])) for i in range(9)]
        assert draw(logits, how, uniforms).tolist() == alone


def test_a_threshold_is_the_last_probability_that_the_mass_needs():
    probabilities = torch.zeros(2, LARGE, dtype=torch.float64)
    probabilities[:, ::512] = torch.tensor([0.1, 0.2, 0.1, 0.2, 0.2, 0.1, 0.05, 0.05]).double()
    found = [nucleus_threshold(probabilities, p).flatten().tolist() for p in (0.19, 0.61, 0.95)]
    assert found == [pytest.approx([p, p]) for p in (0.2, 0.1, 0.05)]
