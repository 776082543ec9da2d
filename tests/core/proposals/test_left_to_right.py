"""What left to right proposes, against literal code for one position at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PhiConfig, PhiForCausalLM

from nabla_core.config import DTO, Objective, Sampling, Select
from nabla_core.draws import uniform
from nabla_core.model_config import Runtime
from nabla_core.proposals import left_to_right
from nabla_core.requests import Proposal, Propose, Sweep
from tests.core.proposals.one_position import literal_changes
from tests.core.reference import KEY, Literal, changes, guide_of, proposed, rolled_out, serve
from tests.core.tiny import Family, characters, greedy_search, one_hots, qwen2, reward_folder, save
from tests.oracle.literal import sample_token


def dto(rate: float, **more: Any) -> DTO:
    return DTO(learning_rate=rate, max_iters=6, **more)


SETTINGS = {
    "logits": greedy_search(dto=dto(0.5)),
    "latents": greedy_search(dto=dto(0.3, variable="latents")),
    "latents, argmax": greedy_search(
        dto=dto(0.3, variable="latents", warmup_steps=2), anchor="argmax"
    ),
    "resampled": greedy_search(dto=dto(0.5), resample=Sampling(0.5, 0.9)),
    "norm": greedy_search(select=Select(0.98, 0.0, 3.0), dto=dto(0.2)),
    "centred norm": greedy_search(select=Select(0.98, 0.0, 3.0, norm="centred"), dto=dto(0.2)),
    "likelihood": greedy_search(dto=dto(0.5), objective=Objective(0.5, 0.5), anchor="argmax"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_left_to_right_proposals_equal_the_literal_ones(family: Family, name: str):
    """On sampled rollouts, so that hard tokens are often not the argmax."""
    config = SETTINGS[name]
    engines = family.engines()
    contexts, responses = rolled_out(engines, 4 if "norm" in name else 2)
    found = proposed(engines, contexts, responses, config)
    expected = literal_changes(family, engines, contexts, responses, config)
    assert [changes(p) for p in found] == expected
    assert sum(map(len, expected)) > 2


def test_latents_pass_through_a_head_with_a_bias(tmp_path: Path):
    tokenizer = characters("0123456789+-*")
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.25,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = PhiForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias, std=2.0)
    lm = save(tmp_path / "lm", model, tokenizer)
    rm = reward_folder(tmp_path / "rm", qwen2(len(tokenizer), num_labels=1), tokenizer, seed=1)
    family = Family(lm, rm, rm)
    engines = family.engines()
    contexts, responses = rolled_out(engines, 2)
    for name in ("logits", "latents"):
        found = proposed(engines, contexts, responses, SETTINGS[name])
        expected = literal_changes(family, engines, contexts, responses, SETTINGS[name])
        assert [changes(p) for p in found] == expected, name


def test_mirror_proposals_are_the_closed_form(family: Family):
    beta = 1.25
    config = greedy_search(dto=DTO(optimizer="mirror", beta=beta), resample=Sampling(0.7))
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 4)
    found = proposed(engines, contexts, responses, config)
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = response.tokens
        g = literal.gradient(context, y, config.objective)
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(y, len(literal.ids)))
        expected = []
        for i in range(len(y)):
            if log_p[i].exp().max() > config.select.confidence_threshold:
                continue
            row = log_p[i].double() - g[i] / beta
            row[literal.vocabulary :] = float("-inf")
            b = sample_token(row, config.resample, uniform(KEY, i))
            if b != y[i]:
                expected.append((i, y[i], b))
        assert changes(proposals) == expected


def test_update_postfix_runs_a_candidate_once_for_each_before_it(plain: Family):
    """In closed form: the n-th candidate's logits have moved n mirror steps."""
    config = greedy_search(
        dto=DTO(optimizer="mirror", beta=1 / 0.3, update_postfix=True),
        resample=Sampling(0.7),
        exact=False,
    )
    engines = plain.engines()
    literal = Literal(plain, engines)
    contexts, responses = rolled_out(engines, 4)
    found = proposed(engines, contexts, responses, config)
    moved = 0
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = response.tokens
        g = literal.gradient(context, y, config.objective)
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(y, len(literal.ids)))
        expected, runs = [], 0
        for i in range(len(y)):
            if log_p[i].exp().max() > config.select.confidence_threshold:
                continue
            runs += 1
            row = log_p[i].double() - 0.3 * runs * g[i]
            row[literal.vocabulary :] = float("-inf")
            b = sample_token(row, config.resample, uniform(KEY, i))
            if b != y[i]:
                expected.append((i, y[i], b))
        assert changes(proposals) == expected
        moved += len(expected) * (runs > 1)
    assert moved


def test_noise_changes_proposals_and_repeats(plain: Family):
    """Gumbel noise is keyed by prompt and position: another key, other proposals."""
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 4)
    noisy = greedy_search(dto=dto(0.3, gumbel_noise=2.0), exact=False)
    once, twice = (proposed(engines, contexts, responses, noisy) for _ in range(2))
    plainly = proposed(engines, contexts, responses, greedy_search(dto=dto(0.3)))
    assert once == twice
    assert [changes(p) for p in once] != [changes(p) for p in plainly]


def test_the_numbers_of_a_proposal(plain: Family):
    engines = plain.engines()
    literal = Literal(plain, engines)
    contexts, responses = rolled_out(engines, 3)
    config = greedy_search()
    for context, response, proposals in zip(
        contexts, responses, proposed(engines, contexts, responses, config), strict=True
    ):
        g = literal.gradient(context, response.tokens, config.objective)
        with torch.no_grad():
            p = literal.log_p(context, one_hots(response.tokens, 24)).exp()
        assert proposals
        for q in proposals:
            row = g[q.position]
            assert q.from_token == response.tokens[q.position]
            assert q.confidence == pytest.approx(float(p[q.position].max()), rel=1e-4)
            assert q.grad_norm == pytest.approx(float(row.norm()), rel=1e-3)
            advantage = float(row[q.from_token] - row[q.to_token])
            assert q.advantage == pytest.approx(advantage, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("anchor", ["rollout", "argmax"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_proposals_do_not_depend_on_how_many_are_asked_for(plain: Family, count: int, anchor: str):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 2)
    config = greedy_search(anchor=anchor, dto=dto(0.5))
    whole = proposed(engines, contexts, responses, config)
    swept = serve(
        engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    )
    for s, expected in zip(swept, whole, strict=True):
        found: list[Proposal] = []
        boundary = 0
        while True:
            (block,) = serve(engines, [Propose(s.gradients, boundary, count, KEY)])
            found += block
            if len(block) < count:
                break
            boundary = block[-1].position + 1
        assert changes(found) == changes(expected)


def test_without_flips_no_sweep_follows_the_first(plain: Family):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    config = greedy_search(dto=DTO(learning_rate=1e-4), resample=Sampling(2.0))
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    engine = engines.serving(Propose)
    engine.submit(0, Propose(swept.gradients, 0, 100, KEY))
    ((_, reply),) = engine.step()
    assert not isinstance(reply, Exception)
    assert len(reply.value) > 1
    assert (reply.cost.rm_backward, reply.cost.lm_forward, reply.cost.paper_calls) == (0, 0, 0)


def test_flips_are_swept_once_lazily_and_counted(plain: Family):
    engines = plain.engines()
    engine = engines.serving(Propose)
    contexts, responses = rolled_out(engines, 3)
    config = greedy_search()

    def ask(gradients: Any, count: int) -> Any:
        engine.submit(0, Propose(gradients, 0, count, KEY))
        ((_, reply),) = engine.step()
        return reply

    for context, response in zip(contexts, responses, strict=True):
        (swept,) = serve(engines, [Sweep(context, response, 0, config)])
        first = ask(swept.gradients, 1)
        known = len(swept.gradients.guide_states)
        assert first.cost.rm_backward == first.cost.lm_backward == known - 1
        assert first.cost.paper_calls == 4 * (known - 1)
        again = ask(swept.gradients, 1)
        assert again.value == first.value
        assert again.cost.rm_backward == 0
        rest = ask(swept.gradients, 1000)
        assert len(swept.gradients.guide_states) - known == rest.cost.rm_backward > 0


@pytest.mark.parametrize("anchor", ["rollout", "argmax"])
def test_extra_sweeps_do_not_depend_on_what_shares_the_batch(plain: Family, anchor: str):
    """Rows that move at their last step need no gradient where they arrive."""
    engines = plain.engines()
    engine = engines.serving(Propose)
    contexts, responses = rolled_out(engines, 6)
    config = greedy_search(anchor=anchor, dto=DTO(learning_rate=1.0, min_lr_ratio=1.0, max_iters=2))
    requests = [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]

    def costs(swept: list[Any]) -> list[tuple[int, int]]:
        for n, s in enumerate(swept):
            engine.submit(n, Propose(s.gradients, 0, 3, KEY))
        replies = dict(engine.step())
        return [(replies[n].cost.rm_backward, replies[n].cost.paper_calls) for n in replies]

    together = costs(serve(engines, requests))
    alone = [costs([s])[0] for s in serve(engines, requests)]
    assert together == alone
    assert sum(backward for backward, _ in alone) > 6


def test_sweeps_of_flips_are_bounded_by_tokens(plain: Family, monkeypatch: pytest.MonkeyPatch):
    engines = plain.engines(Runtime(device="cpu", max_batch_tokens=40))
    contexts, responses = rolled_out(engines, 6)
    config = greedy_search(dto=dto(0.5))
    swept = serve(
        engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    )
    guide = guide_of(engines)
    unpatched = guide.input_gradients
    batches: list[int] = []

    def watched(tasks: Any, *others: Any) -> Any:
        longest = max(len(t.context.lm) + len(t.tokens) for t in tasks)
        batches.append(longest * len(tasks))
        return unpatched(tasks, *others)

    monkeypatch.setattr(guide, "input_gradients", watched)
    serve(engines, [Propose(s.gradients, 0, 3, KEY) for s in swept])
    assert len(batches) > 3
    assert max(batches) <= 40


def test_states_of_bf16_models_are_fp32_and_small_steps_count(
    plain: Family, monkeypatch: pytest.MonkeyPatch
):
    """In bf16 a step at the published rate is below the spacing of numbers."""
    engines = plain.engines(Runtime(device="cpu", dtype="bfloat16"))
    assert guide_of(engines).lm.table.dtype == torch.bfloat16
    moved: list[float] = []

    def watched(rows: Any, g: Tensor, config: DTO, *, anchored: bool) -> Tensor:
        before = rows.x.clone()
        done = optimise(rows, g, config, anchored=anchored)
        assert {t.dtype for t in (rows.x, rows.m, rows.v, g, rows.logits())} == {torch.float32}
        moved.append(float((rows.x - before).abs().max()))
        return done

    optimise = left_to_right.optimise
    monkeypatch.setattr(left_to_right, "optimise", watched)
    for variable in ("logits", "latents"):
        moved.clear()
        contexts, responses = rolled_out(engines, 3)
        proposed(engines, contexts, responses, greedy_search(dto=DTO(variable=variable)))
        # Twenty steps at .01 falling to .001: Adam moves at most about their sum.
        assert 0.05 < moved[0] < 0.13
