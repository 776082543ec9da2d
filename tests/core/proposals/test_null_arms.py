"""Null arms: many responses in one batch, against the law written out for one position."""

from __future__ import annotations

import pytest

from nabla_core.draws import uniform
from nabla_core.proposals.positions import banned_ids
from nabla_core.requests import Propose, Sweep
from tests.core.reference import KEY, guide_of, rolled_out, serve
from tests.core.tiny import Family, greedy_search


@pytest.mark.parametrize("proposals", ["second", "random"])
def test_each_position_gets_the_token_of_its_own_law(family: Family, proposals: str) -> None:
    engines = family.engines()
    config = greedy_search(proposals=proposals)
    contexts, responses = rolled_out(engines, 6)
    swept = serve(
        engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    )
    # The second position on, and no more than three.
    replies = serve(engines, [Propose(s.gradients, 1, 3, KEY) for s in swept])
    guide = guide_of(engines)
    banned = banned_ids(guide).tolist()
    assert sum(map(len, replies)) > 6
    for one, found in zip(swept, replies, strict=True):
        assert len(found) <= 3
        for proposal in found:
            i, own = proposal.position, one.gradients.response.tokens[proposal.position]
            logits = guide.lm.logits(one.gradients.lm.hidden[i]).tolist()
            others = [b for b, no in enumerate(banned) if not no and b != own]
            if proposals == "second":
                expected = max(others, key=lambda b: logits[b])
            else:
                expected = others[int(uniform(KEY, i) * len(others))]
            assert (proposal.from_token, proposal.to_token) == (own, expected)
            assert i >= 1
