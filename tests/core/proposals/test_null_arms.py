"""Null arms: the same positions, changed without a gradient."""

from __future__ import annotations

from collections import Counter

import torch

from nabla_core.draws import DrawKey
from nabla_core.requests import Propose, Sweep
from tests.core.reference import Literal, changes, proposed, rolled_out, serve
from tests.core.tiny import Family, greedy_search, one_hots


def test_the_second_choice_is_the_best_other_token(family: Family):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 4)
    config = greedy_search(proposals="second")
    found = proposed(engines, contexts, responses, config, boundary=1)
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = response.tokens
        with torch.no_grad():
            p = literal.log_p(context, one_hots(y, len(literal.ids))).exp()
        expected = []
        for i in range(1, len(y)):
            if p[i].max() <= 0.98:
                others = p[i].clone()
                others[y[i]] = -1
                expected.append((i, y[i], int(others.argmax())))
        assert changes(proposals) == expected


def test_random_flips_take_every_other_token_alike(plain: Family):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    config = greedy_search(proposals="random")
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    asked = [Propose(swept.gradients, 0, 3, DrawKey(n, "p", 0, "resample")) for n in range(800)]
    drawn = [p for proposals in serve(engines, asked) for p in proposals]
    assert len(drawn) == 2400
    assert all(p.from_token != p.to_token for p in drawn)
    counts = Counter((p.position, p.to_token) for p in drawn)
    # 23 other tokens at each of three positions.
    assert len(counts) == 69
    assert sum((c - 2400 / 69) ** 2 / (2400 / 69) for c in counts.values()) < 110
