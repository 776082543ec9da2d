"""Value heads as guides: advantages from the LM's own hidden states."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nabla_core import Reward, Runtime, load_engines
from nabla_core.config import Sampling
from nabla_core.draws import DrawKey
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import kind_of
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.errors import ModelError, NonFiniteError
from nabla_core.guides.value_head import ValueHeadGuide
from nabla_core.model_config import LM
from nabla_core.models.loading import load_language_model
from nabla_core.requests import Context, Propose, Render, Rollout, Sweep
from tests.core.engines.rollout_requests import answers
from tests.core.guides.heads import RANKED, engines_with, value_head_on
from tests.core.reference import rolled_out, serve
from tests.core.tiny import Family, prompts
from tests.oracle.guided import GuidedModels, guided_response


def guide_in(engines: Engines) -> ValueHeadGuide:
    guide = engines.serving(Sweep)._guide  # type: ignore[attr-defined]
    assert isinstance(guide, ValueHeadGuide)
    return guide


def literal_advantages(family: Family, head: Path, ids: list[int]) -> torch.Tensor:
    """`[S, V]`: the network written out, on the hidden states that transformers gives."""
    w = load_file(head / "model.safetensors")
    with torch.no_grad():
        h = family.raw("lm").base_model(torch.tensor([ids])).last_hidden_state[0]
        if "inner.weight" in w:
            h = h @ w["inner.weight"].T + w["inner.bias"]
            h = h * torch.sigmoid(h)
        return h @ w["project.weight"].T @ w["output.weight"].T


@pytest.mark.parametrize("width", [0, 24])
@pytest.mark.parametrize("reuse", [True, False])
def test_rows_are_the_networks_outputs_at_the_token_before(
    family: Family, tmp_path: Path, reuse: bool, width: int
):
    head = value_head_on(family, tmp_path / "head", width=width)
    engines = engines_with(family, head, reuse=reuse)
    guide = guide_in(engines)
    contexts, responses = rolled_out(engines)
    asked = [Sweep(c, r, 0, RANKED) for c, r in zip(contexts, responses, strict=True)]
    for context, response, swept in zip(contexts, responses, serve(engines, asked), strict=True):
        gradients = swept.gradients
        assert swept.judged is None
        state = gradients.guide_states[response.tokens]
        chosen = [(state, i) for i in range(len(response.tokens))]
        found = guide.rows(chosen, RANKED.objective, gradients.lm.hidden)
        out = literal_advantages(family, head, [*context.lm, *response.tokens])
        expected = -out[len(context.lm) - 1 : -1]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_ranked_proposals_follow_the_formula(family: Family, tmp_path: Path):
    head = value_head_on(family, tmp_path / "head")
    engines = engines_with(family, head)
    lm = guide_in(engines).lm
    (context,), (response,) = rolled_out(engines, 1)
    (swept,) = serve(engines, [Sweep(context, response, 0, RANKED)])
    (found,) = serve(engines, [Propose(swept.gradients, 0, 5, DrawKey(0, "p", 0, "resample"))])
    ids = [*context.lm, *response.tokens]
    advantage = literal_advantages(family, head, ids)[len(context.lm) - 1 : -1]
    with torch.no_grad():
        logits = family.raw("lm")(torch.tensor([ids])).logits[0, len(context.lm) - 1 : -1]
    log_p = logits.masked_fill(lm.no_token, float("-inf")).log_softmax(-1)
    expected = []
    for i, y in enumerate(response.tokens):
        s = 2.0 * (advantage[i] - advantage[i, y]) + log_p[i] - log_p[i, y]
        banned = lm.no_token
        expected += [(float(s[b]), i, b) for b in range(len(banned)) if b != y and not banned[b]]
    expected.sort(reverse=True)
    assert [(p.position, p.to_token) for p in found] == [(i, b) for _, i, b in expected[:5]]
    first = found[0]
    gain = advantage[first.position, first.to_token] - advantage[first.position, first.from_token]
    assert first.advantage == pytest.approx(float(gain), abs=1e-3)


def test_one_forward_pass_of_the_lm_is_all_that_a_sweep_costs(plain: Family, tmp_path: Path):
    engines = engines_with(plain, value_head_on(plain, tmp_path / "head"))
    (context,), (response,) = rolled_out(engines, 1)
    engine = engines.serving(Sweep)
    engine.submit(0, Sweep(context, response, 0, RANKED))
    ((_, reply),) = engine.step()
    assert not isinstance(reply, Exception)
    cost, guide = reply.cost, guide_in(engines)
    assert (cost.lm_forward, cost.rm_forward, cost.lm_backward, cost.rm_backward) == (1, 0, 0, 0)
    assert cost.paper_calls == 1
    tokens = len(response.tokens)
    assert cost.token_passes == tokens
    expected = guide.lm.shape.forward(tokens, len(context.lm) - 1) + guide.lm.shape.head(tokens)
    assert cost.flops == pytest.approx(expected)
    propose = engines.serving(Propose)
    propose.submit(0, Propose(reply.value.gradients, 0, 5, DrawKey(0, "p", 0, "resample")))
    ((_, proposed),) = propose.step()
    assert not isinstance(proposed, Exception)
    size, vocabulary = 32, guide.lm.head.out_features
    network = 2 * size * (24 + 24 + vocabulary)
    assert proposed.cost.flops == pytest.approx((guide.lm.shape.head(1) + network) * tokens)


def test_another_lm_is_refused_by_name(family: Family, plain: Family, tmp_path: Path):
    head = value_head_on(family, tmp_path / "head")
    assert kind_of(str(head), None) == "value_head"
    lm = load_language_model(
        str(family.lm), revision=None, device=torch.device("cpu"), dtype=torch.float32
    )
    other = replace(lm, identity=replace(lm.identity, revision="sha256:0"))
    guide = guide_in(engines_with(family, head))
    with pytest.raises(ModelError, match=rf"value head of the LM {lm.identity.name} .*sha256:0"):
        ValueHeadGuide(other, guide.head, guide.identity)
    # The name of a folder is no part of the LM: a copy elsewhere is the same LM.
    moved = replace(lm, identity=replace(lm.identity, name="elsewhere"))
    assert ValueHeadGuide(moved, guide.head, guide.identity).lm is moved
    if family is not plain:
        reward = Reward(judge=str(plain.judge), guide=str(head))
        with pytest.raises(ModelError, match=r"head is a value head of the LM .*kind: value_head"):
            load_engines(LM(str(plain.lm)), reward, Runtime(device="cpu"))


def test_a_value_head_is_no_judge_and_a_network_that_is_not_finite_is_named(
    plain: Family, tmp_path: Path
):
    head = value_head_on(plain, tmp_path / "head")
    engines = engines_with(plain, head)
    with torch.no_grad():
        guide_in(engines).head.output.weight[3].fill_(float("nan"))
    (context,), (response,) = rolled_out(engines, 1)
    (swept,) = serve(engines, [Sweep(context, response, 0, RANKED)])
    (failed,) = serve(engines, [Propose(swept.gradients, 0, 5, DrawKey(0, "p", 0, "resample"))])
    assert isinstance(failed, NonFiniteError)
    plain.tokenizer("lm").save_pretrained(head)
    with pytest.raises(ModelError, match="head"):
        load_engines(LM(str(plain.lm)), Reward(judge=str(head)), Runtime(device="cpu"))


@pytest.mark.parametrize("capacity", [1, 8])
def test_guided_tokens_are_those_drawn_from_the_law_from_scratch(
    family: Family, tmp_path: Path, capacity: int
):
    """Greedy and sampled, guided and not in one batch."""
    head = value_head_on(family, tmp_path / "head")
    engines = engines_with(family, head)
    guide = guide_in(engines)
    engine = RolloutEngine(guide.lm, capacity, 1 << 20, guide=guide)
    samplings = [Sampling(0, beta=0.2), Sampling(1.0, beta=0.5), Sampling(0.8, 0.9, 20, beta=0.3)]
    contexts: list[Context] = serve(engines, [Render(p) for p in prompts(4)])
    asked = [
        Rollout(c, (), 8, s, DrawKey(0, c.prompt_id, 0, "rollout 0"))
        for c in contexts
        for s in samplings
    ]
    plain_rows = [replace(a, sampling=replace(a.sampling, beta=None)) for a in asked]
    found = answers(engine, asked + plain_rows)
    changed = 0
    for request, led, alone in zip(asked, found, found[len(asked) :], strict=False):
        models = GuidedModels(
            lm=family.raw("lm"),
            head=partial(_literal_head, family, head),
            vocabulary=guide.lm.vocabulary,
            head_ids=range(len(guide.lm.no_token)),
            before=lambda tokens, c=request.context: list(c.lm),
            stop=1,
        )
        tokens = guided_response(
            models, request.context.lm, (), sampling=request.sampling, key=request.key, limit=8
        )
        assert led.value.tokens == tokens
        changed += led.value.tokens != alone.value.tokens
    assert changed >= 4


def _literal_head(family: Family, head: Path, input_ids: torch.Tensor) -> Any:
    return SimpleNamespace(logits=literal_advantages(family, head, input_ids[0].tolist())[None])


def test_guided_decoding_costs_an_output_layer(plain: Family, tmp_path: Path):
    engines = engines_with(plain, value_head_on(plain, tmp_path / "head"))
    guide = guide_in(engines)
    contexts: list[Context] = serve(engines, [Render(p) for p in prompts(1)])
    key = DrawKey(0, "p", 0, "rollout 0")
    engine = RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)
    ((led,), (alone,)) = (
        answers(engine, [Rollout(contexts[0], (), 8, Sampling(0, beta=b), key)])
        for b in (0.5, None)
    )
    new, before = len(led.value.tokens), len(contexts[0].lm)
    assert (led.cost.lm_forward, led.cost.rm_forward) == (1, 0)
    assert led.cost.token_passes == before - 1 + new
    network = 2 * 32 * (24 + 24 + guide.lm.head.out_features) * new
    lm = guide.lm.shape.forward(before - 1 + new) + guide.lm.shape.head(new)
    assert led.cost.flops == pytest.approx(lm + network)
    assert alone.cost.flops == pytest.approx(
        guide.lm.shape.forward(before - 1 + len(alone.value.tokens))
        + guide.lm.shape.head(len(alone.value.tokens))
    )
