"""The whole product on Gemma 2: from folders, searched, trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from nabla_core import DTO, drive, nabla
from nabla_core.guide_training.settings import Kind
from nabla_core.requests import Score
from tests.core.families.gemma import gemma
from tests.core.guide_training.test_trainees import (
    test_what_a_trainee_says_is_what_the_engines_make_of_it as check_trainee,
)
from tests.core.reference import rolled_out, serve
from tests.core.tiny import Family, greedy_search, prompts


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return gemma(tmp_path_factory.mktemp("gemma"))


def test_attention_scores_are_capped_though_the_default_kernel_leaves_it_out(family: Family):
    engines = family.engines()
    contexts, responses = rolled_out(engines)
    scores = serve(engines, [Score(c, r.tokens) for c, r in zip(contexts, responses, strict=True)])
    found = [judged.reward for judged in scores]
    rewards = {}
    for kernel in ("eager", "sdpa"):
        judge = AutoModelForSequenceClassification.from_pretrained(
            family.judge, attn_implementation=kernel
        ).eval()
        with torch.no_grad():
            rewards[kernel] = [
                float(judge(input_ids=torch.tensor([[*c.judge[0], *r.tokens]])).logits)
                for c, r in zip(contexts, responses, strict=True)
            ]
    assert found == pytest.approx(rewards["eager"], abs=1e-4)
    assert max(abs(a - b) for a, b in zip(found, rewards["sdpa"], strict=True)) > 0.05


@pytest.mark.parametrize("kind", ["gradient", "head"])
def test_a_guide_in_training_predicts_what_the_engines_make_of_it(family: Family, kind: Kind):
    check_trainee(family, kind)


@pytest.mark.parametrize("variable", ["logits", "latents"])
def test_a_search_improves_rewards(family: Family, variable: str, tmp_path: Path):
    config = greedy_search(max_rollouts=4, dto=DTO(learning_rate=0.3, variable=variable))
    flows = [nabla(p, config, seed=0, max_tokens=9) for p in prompts(6)]
    traces = list(drive(flows, family.engines()))
    assert len(traces) == 6
    assert any(r.accepted for t in traces for r in t.revisions)
    assert all(t.reward >= t.base_reward for t in traces)
