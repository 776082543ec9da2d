"""Random draws: pinned, uniform, and a stream of its own for each key."""

from __future__ import annotations

import random

import pytest

from nabla_core.draws import DrawKey, uniform, uniform_at

KEY = DrawKey(0, "p", 0, "resample")


class Seeded(DrawKey):
    """A stream whose state is known, to compare with the published generator."""

    def stream(self) -> int:
        return 1234567


def uniforms(key: DrawKey, start: int, count: int) -> list[float]:
    return [uniform(key, start + n) for n in range(count)]


def test_the_stream_is_splitmix64():
    # The first outputs of the reference implementation (Vigna) for seed 1234567.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    key = Seeded(0, "", 0, "")
    assert uniforms(key, 0, 5) == [(n >> 11) / 2**53 for n in published]


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        (KEY, 0, 0.8784477256971475),
        (KEY, 1, 0.26416151704549307),
        (DrawKey(7, "digits/test/0/3", 2, "rollout 0"), 15, 0.30767330364533063),
        (DrawKey(0, "π", 0, "x"), 1000, 0.10249042976562617),
    ],
)
def test_draws_are_pinned(key: DrawKey, counter: int, expected: float):
    """Traces written by one version must be reproducible by the next."""
    assert uniform(key, counter) == expected
    assert uniform_at(key.stream(), counter) == expected


def test_draws_do_not_depend_on_the_order_they_are_asked_for():
    counters = list(range(50))
    in_order = {n: uniform(KEY, n) for n in counters}
    random.Random(0).shuffle(counters)
    assert {n: uniform(DrawKey(0, "p", 0, "resample"), n) for n in counters} == in_order
    assert uniforms(KEY, 20, 5) == [in_order[n] for n in range(20, 25)]


@pytest.mark.parametrize(
    "other",
    [
        DrawKey(1, "p", 0, "resample"),
        DrawKey(0, "q", 0, "resample"),
        DrawKey(0, "p", 1, "resample"),
        DrawKey(0, "p", 0, "rollout 0"),
        # Digits must not move from one field to the next.
        DrawKey(0, "p0", 0, "resample"),
        DrawKey(0, "p", 10, "resample"),
    ],
)
def test_every_part_of_the_key_names_another_stream(other: DrawKey):
    assert not set(uniforms(KEY, 0, 100)) & set(uniforms(other, 0, 100))


def test_draws_are_uniform():
    drawn = [u for n in range(100) for u in uniforms(DrawKey(0, str(n), 0, "x"), 0, 100)]
    assert all(0 <= u < 1 for u in drawn)
    counts = [sum(int(10 * u) == k for u in drawn) for k in range(10)]
    # 10,000 draws in ten cells: chi-squared with 9 degrees of freedom, .999 quantile 27.9.
    assert sum((c - 1000) ** 2 / 1000 for c in counts) < 27.9
