"""Vocabularies with gaps: an id that is no token is never drawn, proposed or tried, and the stop
token behind a gap ends responses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nabla_core import BestOfN, NablaConfig, Prompt, Ranked, Runtime, Sampling, Select, drive
from nabla_core.config import DTO, Decoding
from nabla_core.engines.base import Engines
from nabla_core.methods.counterfactuals import Explore, explore
from nabla_core.methods.dispatch import flow
from nabla_core.models.loading import load_language_model
from tests.core.gaps import HOLES, IDS, SIZE, STOP, family_with_gaps
from tests.core.tiny import Family

PROMPTS = [Prompt.of(text, id=f"p{n}") for n, text in enumerate(["a", "bcd", "fe", "abcdef"])]
WARM = Sampling(temperature=2.0)
ALL = Select(confidence_threshold=1.0)
LEFT = NablaConfig(rollout=WARM, select=ALL, resample=WARM, dto=DTO(learning_rate=0.5))


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return family_with_gaps(tmp_path_factory.mktemp("gaps"))


@pytest.fixture(scope="module")
def engines(gaps: Family) -> Engines:
    return gaps.engines(Runtime(device="cpu"), coverage=1.0)


def traces(engines: Engines, decoding: Decoding) -> list[Any]:
    flows = (flow(p, decoding, seed=s) for p in PROMPTS for s in range(3))
    return list(drive(flows, engines))


def test_exactly_the_ids_without_a_token_are_masked(gaps: Family):
    lm = load_language_model(
        str(gaps.lm), revision=None, device=torch.device("cpu"), dtype=torch.float32
    )
    assert lm.stop == {STOP}
    assert lm.no_token.nonzero().squeeze(-1).tolist() == HOLES
    logits = lm.logits(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)))
    assert (logits == float("-inf")).nonzero()[:, 1].tolist() == HOLES * 3
    assert logits[:, sorted(IDS.values())].isfinite().all()


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding("greedy", max_tokens=12),
        Decoding("sample", max_tokens=12, sample=WARM),
        Decoding("best_of_n", max_tokens=12, best_of_n=BestOfN(3, WARM)),
        Decoding("mh", max_tokens=12),
    ],
    ids=lambda decoding: decoding.method,
)
def test_no_response_has_an_id_without_a_token(engines: Engines, decoding: Decoding):
    found = traces(engines, decoding)
    written = {token for trace in found for token in trace.tokens}
    assert written <= set(IDS.values())
    if decoding.method != "greedy":
        assert any(trace.finish_reason == "stop" for trace in found)


@pytest.mark.parametrize(
    "config",
    [
        LEFT,
        NablaConfig(rollout=WARM, proposals="ranked", ranked=Ranked(min_score=-50)),
        NablaConfig(rollout=WARM, proposals="ranked", ranked=Ranked(beta=None, min_score=-50)),
        NablaConfig(rollout=WARM, proposals="second", select=ALL),
        NablaConfig(rollout=WARM, proposals="random", select=ALL),
    ],
    ids=["left_to_right", "ranked", "ranked without a guide", "second", "random"],
)
def test_no_proposal_is_an_id_without_a_token(engines: Engines, config: NablaConfig):
    found = traces(engines, Decoding(max_tokens=12, nabla=config))
    proposed = [r.to_token for trace in found for r in trace.revisions]
    assert len(proposed) > 20
    assert set(proposed) <= set(IDS.values())
    assert STOP in proposed


def test_no_counterfactual_is_an_id_without_a_token(engines: Engines):
    config = Explore(temperatures=(0.5, 1.0), alternatives=9, positions=4)
    flows = (explore(p, config, lambda prompt, text: None, seed=0, max_tokens=8) for p in PROMPTS)
    tried = [set(place.tokens) for found in drive(flows, engines) for place in found.places]
    # Every token was tried, and nothing else.
    assert tried
    assert all(tokens == set(IDS.values()) for tokens in tried)


def test_every_id_of_the_table_is_a_token_or_a_gap():
    assert sorted([*HOLES, *IDS.values()]) == list(range(SIZE))
