"""What a trace keeps of every candidate, and the log-probabilities of the last response."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from nabla_core import Trace, drive, nabla
from nabla_core.config import MH, Sampling
from nabla_core.methods.metropolis import mh
from tests.core.methods.script import STOP, Script, counting, every_position, run, total
from tests.core.tiny import Family, greedy_search, prompts


def replayed(trace: Trace) -> tuple[int, ...]:
    """The last response, made from the base response and the tails of the accepted revisions."""
    response = trace.base_tokens
    for revision in trace.revisions:
        assert revision.tail_token_ids[0] == revision.to_token
        if revision.accepted:
            assert response[revision.position] == revision.from_token
            response = (*response[: revision.position], *revision.tail_token_ids)
    return response


def test_every_candidate_has_its_tail_rejected_ones_too():
    trace = run(Script(counting, lambda y: -total(y), every_position))
    assert trace.base_tokens == (1, 2, 3, 4, STOP)
    assert [r.tail_token_ids for r in trace.revisions] == [
        (11, 2, 3, 4, STOP),
        (12, 3, 4, STOP),
        (13, 4, STOP),
        (14, STOP),
    ]


def test_a_script_without_an_lm_has_no_log_probabilities():
    assert run(Script(counting, total, every_position)).log_probabilities is None


@pytest.mark.parametrize("proposals", ["left_to_right", "ranked"])
def test_tails_lead_to_the_response_and_log_probabilities_are_the_lms(
    plain: Family, proposals: str
):
    model = AutoModelForCausalLM.from_pretrained(plain.lm)
    config = greedy_search(proposals=proposals)
    asked = prompts(12)
    engines = plain.engines()
    tokenizer = plain.tokenizer("lm")
    read = unread = 0
    for trace in drive((nabla(p, config, max_tokens=10) for p in asked), engines):
        assert replayed(trace) == trace.tokens
        if trace.log_probabilities is None:
            continue
        assert len(trace.log_probabilities) == len(trace.tokens)
        prompt = tokenizer.encode(trace.prompt_text)
        ids = torch.tensor([[*prompt, *trace.tokens]])
        logits = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor(trace.tokens)[:, None])[:, 0].tolist()
        for found, right in zip(trace.log_probabilities, expected, strict=True):
            if found is None:
                unread += 1
            else:
                assert found == pytest.approx(right, abs=1e-4)
                read += 1
    assert read > 50
    # Left to right, a token that a revision put in lies between two sweeps.
    assert (unread > 0) == (proposals == "left_to_right")


def test_a_last_response_that_was_not_swept_has_none(plain: Family):
    config = greedy_search(max_rollouts=1)
    traces = list(drive((nabla(p, config, max_tokens=10) for p in prompts(12)), plain.engines()))
    changed = [trace for trace in traces if trace.revisions and trace.revisions[-1].accepted]
    assert 0 < len(changed) < len(traces)
    assert all(trace.log_probabilities is None for trace in changed)
    assert all(t.log_probabilities is not None for t in traces if t not in changed)


def test_chains_keep_their_tails_too(plain: Family):
    config = MH(steps=6, rollout=Sampling(temperature=1.0))
    traces = list(drive((mh(p, config, max_tokens=8) for p in prompts(6)), plain.engines()))
    assert all(replayed(trace) == trace.tokens for trace in traces)
    assert any(r.accepted for trace in traces for r in trace.revisions)
