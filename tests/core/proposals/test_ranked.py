"""Ranked proposals against scores of all pairs, computed word for word."""

from __future__ import annotations

import pytest
import torch

from nabla_core.config import NablaConfig, Ranked
from nabla_core.requests import Propose, Sweep
from tests.core.reference import KEY, Literal, changes, proposed, rolled_out, serve
from tests.core.tiny import Family, one_hots


@pytest.mark.parametrize(
    "ranked",
    [
        Ranked(),
        Ranked(beta=2.0, min_score=-4.0),
        Ranked(beta=None, min_score=-3.0),
        Ranked(min_score=0.0),
    ],
)
def test_ranked_proposals_are_the_best_pairs_of_all(family: Family, ranked: Ranked):
    config = NablaConfig(proposals="ranked", ranked=ranked, max_rollouts=10)
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 4)
    found = proposed(engines, contexts, responses, config, boundary=3, count=10)
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = list(response.tokens)
        g = literal.gradient(context, response.tokens, config.objective).double()
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(y, len(literal.ids))).double()
        weight = 1 / ranked.beta if ranked.beta else 0.0
        scores = {
            (i, y[i], b): float(weight * (g[i, y[i]] - g[i, b]) + log_p[i, b] - log_p[i, y[i]])
            for i in range(len(y))
            for b in range(literal.vocabulary)
            if b != y[i]
        }
        expected = sorted(
            (k for k in scores if scores[k] > ranked.min_score), key=lambda k: -scores[k]
        )
        assert changes(proposals) == expected[:10]
        for q in proposals:
            gain = float(g[q.position, q.from_token] - g[q.position, q.to_token])
            wanted = gain if ranked.beta else 0.0
            assert q.advantage == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_a_nucleus_keeps_proposals_to_likely_tokens(family: Family):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 3)
    whole = NablaConfig(proposals="ranked", ranked=Ranked(min_score=-100.0), max_rollouts=500)
    within = NablaConfig(
        proposals="ranked", ranked=Ranked(min_score=-100.0, nucleus=0.6), max_rollouts=500
    )
    every = proposed(engines, contexts, responses, whole)
    some = proposed(engines, contexts, responses, within)
    for context, response, all_pairs, kept in zip(contexts, responses, every, some, strict=True):
        with torch.no_grad():
            p = literal.log_p(context, one_hots(response.tokens, len(literal.ids))).exp()
        likely = set()
        for i, row in enumerate(p.tolist()):
            mass = 0.0
            for b in sorted(range(len(row)), key=lambda b, row=row: -row[b]):
                if mass >= 0.6:
                    break
                mass += row[b]
                likely.add((i, b))
        expected = [c for c in changes(all_pairs) if (c[0], c[2]) in likely]
        assert changes(kept) == expected
        assert 0 < len(expected) < len(all_pairs)


def test_tried_pairs_are_left_out_and_the_ranking_lasts(plain: Family):
    """A search of n rollouts that carries n - 1 tried pairs still gets n proposals."""
    config = NablaConfig(proposals="ranked", ranked=Ranked(min_score=-100.0), max_rollouts=4)
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    (best,) = serve(engines, [Propose(swept.gradients, 0, 8, KEY)])
    assert len(best) == 8
    tried = frozenset((p.position, p.to_token) for p in best[:4])
    (rest,) = serve(engines, [Propose(swept.gradients, 0, 4, KEY, tried)])
    assert rest == best[4:]
