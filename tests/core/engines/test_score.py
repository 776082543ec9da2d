"""Scores are those of the judge as transformers runs it."""

from __future__ import annotations

import pytest
import torch

from nabla_core.requests import Judged, Score
from tests.core.reference import rolled_out, serve
from tests.core.tiny import Family


def test_scores_are_the_judges_not_the_guides(plain: Family):
    engines = plain.engines()
    contexts, responses = rolled_out(engines)
    scores = serve(engines, [Score(c, r.tokens) for c, r in zip(contexts, responses, strict=True)])
    judge = plain.raw("judge")
    for context, response, judged in zip(contexts, responses, scores, strict=True):
        ids = torch.tensor([[*context.judge[0], *response.tokens]])
        with torch.no_grad():
            assert judged.reward == pytest.approx(float(judge(input_ids=ids).logits), abs=1e-5)


def test_caches_are_returned_only_where_asked_for(plain: Family):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 2)
    asked = [
        Score(contexts[0], responses[0].tokens, return_cache=True),
        Score(contexts[1], responses[1].tokens),
    ]
    kept, dropped = serve(engines, asked)
    assert isinstance(kept, Judged)
    assert kept.cache is not None
    assert dropped.cache is None
