"""Engines without a judge: responses have no reward, and nothing else changes."""

from __future__ import annotations

import pytest

from nabla_core import Prompt, Reward, Runtime, Sampling, drive, flow, load_engines
from nabla_core.config import BestOfN, Decoding, Majority
from nabla_core.errors import ModelError
from nabla_core.model_config import LM
from tests.core.tiny import Family

CPU = Runtime(device="cpu")
PROMPTS = [Prompt.of(text, id=text) for text in ("1+2*3-4+5*6+7-8+9", "2*2*2*2*2*2*2*2*2")]
METHODS = {
    "greedy": Decoding(method="greedy", max_tokens=12),
    "sample": Decoding(method="sample", max_tokens=12),
    "majority": Decoding(method="majority", max_tokens=12, majority=Majority(3)),
    "guided": Decoding(
        method="guided", max_tokens=12, guided=Sampling(temperature=0, top_p=1, beta=0.25)
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_responses_are_those_with_a_judge_without_its_reward_and_cost(method: str):
    guide = "embedded-head" if method == "guided" else None
    told = {}
    for judge in ("embedded", None):
        engines = load_engines(LM("embedded"), Reward(judge, guide=guide), CPU)
        flows = [flow(p, METHODS[method], judged=judge is not None) for p in PROMPTS]
        told[judge] = sorted(drive(flows, engines), key=lambda trace: trace.prompt_id)
    for judged, alone in zip(told["embedded"], told[None], strict=True):
        assert alone.tokens == judged.tokens
        assert alone.reward is None
        assert alone.base_reward is None
        scored = judged.reward is not None
        assert scored == (method != "majority")
        assert alone.cost.flops < judged.cost.flops or not scored
        assert alone.cost.paper_calls == judged.cost.paper_calls - scored
    assert "judge" not in engines.identities
    assert ("guide" in engines.identities) == (guide is not None)


def test_what_needs_a_judge_is_refused(plain: Family):
    gradient = Reward(None, guide=str(plain.guide))
    with pytest.raises(ModelError, match=r"guides by its gradient.*reward\.judge=null"):
        load_engines(LM(str(plain.lm)), gradient, CPU)
    engines = load_engines(LM(str(plain.lm)), Reward(None), CPU)
    best = flow(PROMPTS[0], Decoding(method="best_of_n", max_tokens=4, best_of_n=BestOfN(2)))
    with pytest.raises(LookupError, match="no engine serves Score"):
        list(drive([best], engines))
    with pytest.raises(ModelError, match=r"reward\.judge=null: a judge is needed here"):
        _ = Reward(None).required_judge


@pytest.mark.parametrize("guide", [None, "embedded-head"])
def test_templates_are_checked_for_tools_as_with_a_judge(guide: str | None):
    engines = load_engines(LM("embedded"), Reward(None, guide=guide), CPU)
    with pytest.raises(ModelError, match="its chat template leaves out the tools"):
        engines.check_tools()
