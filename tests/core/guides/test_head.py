"""Heads as guides: the same search, advantages predicted instead of read off a gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM

from nabla_core import Prompt, Reward, Runtime, load_engines
from nabla_core.draws import DrawKey
from nabla_core.errors import ContextError, ModelError
from nabla_core.guide_training.head_model import new_head
from nabla_core.model_config import LM
from nabla_core.requests import Propose, Render, Response, Sweep
from tests.core.guides.heads import RANKED, engines_with, head_of, head_on
from tests.core.reference import rolled_out, serve
from tests.core.tiny import Family


@pytest.fixture(params=["judge", "lm"])
def head(request: pytest.FixtureRequest, family: Family, tmp_path: Path) -> Path:
    """A head with random weights on a backbone of the family."""
    return head_on(family, request.param, tmp_path / "head")


@pytest.mark.parametrize("reuse", [True, False])
def test_rows_are_the_heads_outputs_at_the_token_before(family: Family, head: Path, reuse: bool):
    engines = engines_with(family, head, reuse=reuse)
    guide = head_of(engines)
    model = new_head(str(head))
    contexts, responses = rolled_out(engines)
    asked = [Sweep(c, r, 0, RANKED) for c, r in zip(contexts, responses, strict=True)]
    for context, response, swept in zip(contexts, responses, serve(engines, asked), strict=True):
        gradients = swept.gradients
        assert swept.judged is None
        state = gradients.guide_states[response.tokens]
        chosen = [(state, i) for i in range(len(response.tokens))]
        logits = guide.lm.logits(gradients.lm.hidden.clone())
        found = guide.rows(chosen, RANKED.objective, logits)
        before = context.guide[0]
        mapped = guide.vocabulary.ids[list(response.tokens)].tolist()
        with torch.no_grad():
            out = model(torch.tensor([[*before, *mapped]])).logits[0, len(before) - 1 : -1]
        known = guide.vocabulary.ids >= 0
        expected = -out[:, guide.vocabulary.ids[known]]
        torch.testing.assert_close(found[:, known], expected, rtol=1e-4, atol=1e-4)


def test_nothing_is_worth_more_than_a_stop_that_the_head_does_not_know(
    grouped: Family, tmp_path: Path
):
    """A chat template stands for it, so such a vocabulary is accepted."""
    engines = engines_with(grouped, head_on(grouped, "judge", tmp_path / "head"))
    guide = head_of(engines)
    (stop,) = guide.lm.stop
    stopped = [
        (context, Response((*response.tokens[:-1], stop), "stop"))
        for context, response in zip(*rolled_out(engines), strict=True)
    ]

    def rows(context: Any, response: Any) -> torch.Tensor:
        (swept,) = serve(engines, [Sweep(context, response, 0, RANKED)])
        state = swept.gradients.guide_states[response.tokens]
        logits = guide.lm.logits(swept.gradients.lm.hidden.clone())
        chosen = [(state, i) for i in range(len(response.tokens))]
        return guide.rows(chosen, RANKED.objective, logits)

    before = [rows(*pair) for pair in stopped]
    guide.vocabulary.ids[stop] = -1
    for pair, known in zip(stopped, before, strict=True):
        found = rows(*pair)
        assert torch.equal(found[:-1], known[:-1])
        assert known[-1].any()
        assert not found[-1].any()


def test_a_bias_of_the_lms_output_layer_starts_at_zero_too(tmp_path: Path):
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=16, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    lm = PhiForCausalLM(config)
    torch.nn.init.normal_(lm.lm_head.bias)
    lm.save_pretrained(tmp_path)
    with torch.no_grad():
        assert not new_head(str(tmp_path))(torch.tensor([[2, 3, 4]])).logits.any()


def test_ranked_proposals_follow_the_formula(plain: Family, tmp_path: Path):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path / "head"))
    guide = head_of(engines)
    (context,), (response,) = rolled_out(engines, 1)
    (swept,) = serve(engines, [Sweep(context, response, 0, RANKED)])
    (found,) = serve(engines, [Propose(swept.gradients, 0, 5, DrawKey(0, "p", 0, "resample"))])
    log_p = guide.lm.logits(swept.gradients.lm.hidden.clone()).log_softmax(-1)
    state = swept.gradients.guide_states[response.tokens]
    advantage = guide.head.head(state.hidden)
    expected = []
    for i, y in enumerate(response.tokens):
        s = 2.0 * (advantage[i] - advantage[i, y]) + log_p[i] - log_p[i, y]
        expected += [(float(s[b]), i, b) for b in range(guide.lm.vocabulary) if b != y]
    expected.sort(reverse=True)
    best = [(i, b) for s, i, b in expected if s > -3.0][:5]
    assert [(p.position, p.to_token) for p in found] == best
    first = found[0]
    gain = advantage[first.position, first.to_token] - advantage[first.position, first.from_token]
    assert first.advantage == pytest.approx(float(gain), abs=1e-4)


def test_no_backward_pass_is_taken_nor_counted(plain: Family, tmp_path: Path):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path / "head"))
    (context,), (response,) = rolled_out(engines, 1)
    engine = engines.serving(Sweep)
    engine.submit(0, Sweep(context, response, 0, RANKED))
    ((_, reply),) = engine.step()
    assert not isinstance(reply, Exception)
    cost, guide = reply.cost, head_of(engines)
    assert (cost.lm_forward, cost.rm_forward, cost.lm_backward, cost.rm_backward) == (1, 1, 0, 0)
    assert cost.paper_calls == 2
    # The LM continues behind the rollout's cache; neither is fed the last token.
    tokens, before = len(response.tokens), len(context.guide[0])
    assert cost.token_passes == tokens + before + tokens - 1
    expected = guide.lm.shape.forward(tokens, len(context.lm) - 1) + guide.lm.shape.head(tokens)
    expected += guide.head.shape.forward(before + tokens - 1)
    assert cost.flops == pytest.approx(expected)
    assert not reply.value.gradients.lm.hidden.requires_grad


def test_a_head_is_no_judge_and_a_response_must_fit_it(plain: Family, tmp_path: Path):
    path = head_on(plain, "judge", tmp_path / "head")
    with pytest.raises(ModelError, match="weights lack score"):
        load_engines(LM(str(plain.lm)), Reward(judge=str(path)), Runtime(device="cpu"))
    engines = engines_with(plain, path)
    object.__setattr__(head_of(engines).head, "context", 8)
    (context,) = serve(engines, [Render(Prompt.of("1+2+3+4+5", id="p"))])
    _, (response,) = rolled_out(engines, 1)
    (failed,) = serve(engines, [Sweep(context, response, 0, RANKED)])
    assert isinstance(failed, ContextError)
    assert "guide" in str(failed)


def test_an_unknown_kind_and_a_missing_backbone_are_named(plain: Family, tmp_path: Path):
    model = new_head(str(plain.judge))
    model.config.nabla_guide = "oracle"
    model.save_pretrained(tmp_path)
    plain.tokenizer("judge").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="'oracle', not gradient or head"):
        engines_with(plain, tmp_path)
    with pytest.raises(ModelError, match="nothing: no such folder"):
        new_head(str(tmp_path / "nothing"))
