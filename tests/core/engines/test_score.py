"""Scores are those of the judge as transformers runs it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nabla_core import Runtime, drive, nabla
from nabla_core.requests import Judged, Score, Sweep
from tests.core.reference import rolled_out, serve
from tests.core.tiny import Family, greedy_search, prompts


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_response_that_is_judged_alone_has_the_same_reward_in_any_batch(
    family: Family, dtype: Any
):
    engines = family.engines(Runtime(device="cpu", dtype=dtype, score_alone=True))
    contexts, responses = rolled_out(engines)
    pairs = list(zip(contexts, responses, strict=True))
    together = serve(engines, [Score(c, r.tokens, return_cache=True) for c, r in pairs])
    alone = [serve(engines, [Score(c, r.tokens)])[0] for c, r in pairs]
    # To the last bit, and without a prefix cache to continue from.
    assert [one.reward for one in together] == [one.reward for one in alone]
    assert {one.cache for one in together} == {None}
    cached = serve(
        family.engines(Runtime(device="cpu", dtype=dtype)),
        [Score(c, r.tokens, return_cache=True) for c, r in pairs],
    )
    behind = [
        Score(c, r.tokens, reuse=one.cache) for (c, r), one in zip(pairs, cached, strict=True)
    ]
    assert [one.reward for one in serve(engines, behind)] == [one.reward for one in alone]


def test_a_judge_that_guides_is_asked_for_its_reward_alone_too(plain: Family):
    found = {}
    for size in (1, 8):
        runtime = Runtime(device="cpu", max_batch=size, score_alone=True)
        engines = plain.engines(runtime, two=False)
        contexts, responses = rolled_out(engines, 2)
        (swept, _) = serve(
            engines,
            [Sweep(c, r, 0, greedy_search()) for c, r in zip(contexts, responses, strict=True)],
        )
        assert swept.judged is None
        flows = (nabla(p, greedy_search(), max_tokens=8) for p in prompts(4))
        found[size] = {
            t.prompt_id: (t.base_reward, t.reward, [r.reward_after for r in t.revisions])
            for t in drive(flows, engines)
        }
    assert found[1] == found[8]
