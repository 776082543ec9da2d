"""Rollouts against transformers generate and the literal sampler, at every batch size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from nabla_core.config import Sampling
from nabla_core.draws import DrawKey, uniform
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.errors import ModelError
from nabla_core.models.loading import LanguageModel
from nabla_core.requests import Reply
from tests.core.engines.rollout_requests import (
    GREEDY,
    PROMPTS,
    answers,
    generated,
    language_model,
    responses,
    rollout,
)
from tests.core.tiny import Family, characters, save
from tests.oracle.literal import sample_token


@pytest.mark.parametrize("capacity", [1, 3, 32])
def test_greedy_rollouts_equal_transformers_generate(family: Family, capacity: int):
    lm, model = language_model(family), family.raw("lm")
    # A padded table of random weights may prefer its padding; the product never does.
    model.get_output_embeddings().weight[lm.vocabulary :] = 0
    ids = [lm.tokenizer.encode(text) for text in PROMPTS]
    limits = [12, 1, 9, 12, 5, 12, 2, 12]
    found = responses(
        RolloutEngine(lm, capacity, 1 << 20),
        [rollout(i, limit=limit) for i, limit in zip(ids, limits, strict=True)],
    )
    expected = [generated(model, i, limit) for i, limit in zip(ids, limits, strict=True)]
    assert [r.tokens for r in found] == expected
    ends = ["stop" if tokens[-1] == 1 else "length" for tokens in expected]
    assert [r.finish for r in found] == ends


def test_the_tiny_models_end_both_ways(plain: Family):
    """What the test above relies on."""
    lm = language_model(plain)
    ids = [lm.tokenizer.encode(text) for text in PROMPTS]
    found = responses(RolloutEngine(lm, 8, 1 << 20), [rollout(i, limit=12) for i in ids])
    assert {r.finish for r in found} == {"stop", "length"}


def test_prompts_of_one_token_have_an_empty_history(family: Family):
    lm, model = language_model(family), family.raw("lm")
    ids = [[n] for n in (4, 5, 9, 11)]
    expected = [literal(model, i, 6, GREEDY, lm.vocabulary) for i in ids]
    engine = RolloutEngine(lm, 8, 1 << 20)
    assert [r.tokens for r in responses(engine, [rollout(i, limit=6) for i in ids])] == expected
    # Beside a long prompt, and alone.
    long = lm.tokenizer.encode(PROMPTS[2])
    together = responses(engine, [rollout(long, limit=6), rollout(ids[0], limit=6)])
    assert together[1].tokens == expected[0]
    assert responses(engine, [rollout(ids[1], limit=6)])[0].tokens == expected[1]


def literal(
    model: Any, ids: list[int], limit: int, sampling: Sampling, vocabulary: int
) -> tuple[int, ...]:
    """One token after the other, everything read again each time."""
    y: list[int] = []
    key = DrawKey(0, str(tuple(ids)), 0, "rollout 0")
    while len(y) < limit and y[-1:] != [1]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids + y])).logits[0, -1, :vocabulary]
        y.append(sample_token(logits, sampling, uniform(key, len(y))))
    return tuple(y)


@pytest.mark.parametrize("capacity", [1, 2, 5, 32])
def test_sampled_rollouts_are_the_literal_ones_at_every_batch_size(family: Family, capacity: int):
    lm, model = language_model(family), family.raw("lm")
    sampling = Sampling(0.8, 0.95, 15)
    ids = [lm.tokenizer.encode(text) for text in PROMPTS]
    found = responses(
        RolloutEngine(lm, capacity, 1 << 20), [rollout(i, sampling=sampling) for i in ids]
    )
    expected = [literal(model, i, 12, sampling, lm.vocabulary) for i in ids]
    assert [r.tokens for r in found] == expected


def test_rows_of_one_batch_keep_their_own_sampling(plain: Family):
    lm, model = language_model(plain), plain.raw("lm")
    ids = [lm.tokenizer.encode(text) for text in PROMPTS]
    settings = [GREEDY, Sampling(1.0), Sampling(0.5, 0.8), Sampling(2.0, top_k=3)] * 2
    found = responses(
        RolloutEngine(lm, 8, 1 << 20),
        [rollout(i, sampling=s) for i, s in zip(ids, settings, strict=True)],
    )
    expected = [literal(model, i, 12, s, lm.vocabulary) for i, s in zip(ids, settings, strict=True)]
    assert [r.tokens for r in found] == expected


def test_more_requests_than_rows_are_refilled_as_rows_end(plain: Family):
    lm, model = language_model(plain), plain.raw("lm")
    ids = [lm.tokenizer.encode(f"{n}+{n * n}") for n in range(23)]
    engine = RolloutEngine(lm, 4, 1 << 20)
    widths: list[int] = []
    decode = engine._decode

    def counted() -> Any:
        widths.append(len(engine._rows))
        return decode()

    engine._decode = counted  # type: ignore[method-assign]
    found = responses(engine, [rollout(i, limit=1 + n % 9) for n, i in enumerate(ids)])
    expected = [generated(model, i, 1 + n % 9) for n, i in enumerate(ids)]
    assert [r.tokens for r in found] == expected
    assert max(widths) == 4
    # Rows that ended were replaced: nearly every pass ran with all four.
    assert sum(widths) / len(widths) > 3.4


def test_rows_are_bounded_by_tokens_too(plain: Family):
    lm = language_model(plain)
    ids = [lm.tokenizer.encode("1+1")] * 6
    engine = RolloutEngine(lm, 6, max_batch_tokens=2 * (3 + 12))
    rows: list[int] = []
    decode = engine._decode

    def counted() -> Any:
        rows.append(len(engine._rows))
        return decode()

    engine._decode = counted  # type: ignore[method-assign]
    responses(engine, [rollout(i) for i in ids])
    assert max(rows) == 2


@pytest.mark.parametrize("ending", ["stop", "limit", "beyond the limit"])
def test_a_prefix_that_has_ended_generates_nothing(plain: Family, ending: str):
    lm = language_model(plain)
    engine = RolloutEngine(lm, 4, 1 << 20)
    prefix, limit = {"stop": ((5, 6, 1), 12), "limit": ((5, 6, 7), 3)}.get(ending, ((5, 6, 7), 2))
    (reply,) = answers(engine, [rollout((4, 5), prefix, limit)])
    assert isinstance(reply, Reply)
    assert reply.value.tokens == prefix
    assert reply.value.finish == ("stop" if ending == "stop" else "length")
    assert (reply.cost.rollouts, reply.cost.generated_tokens, reply.cost.lm_forward) == (1, 0, 0)
    assert (reply.cost.paper_calls, reply.cost.token_passes) == (0, 0)


def test_the_context_ends_a_response_before_the_limit_does(plain: Family):
    lm = language_model(plain)
    ids = lm.tokenizer.encode("1-1-" * 15)
    assert len(ids) == 60
    (found,) = responses(RolloutEngine(lm, 4, 1 << 20), [rollout(ids, limit=1000)])
    assert len(found.tokens) <= 4


@pytest.mark.parametrize("return_cache", [True, False])
def test_continuing_from_a_cache_gives_the_same_tokens(family: Family, return_cache: bool):
    lm, model = language_model(family), family.raw("lm")
    engine = RolloutEngine(lm, 8, 1 << 20, return_cache=return_cache)
    ids = [lm.tokenizer.encode(text) for text in PROMPTS]
    first = responses(engine, [rollout(i, return_cache=True) for i in ids])
    assert all((r.cache is not None) == return_cache for r in first)
    revisions = []
    for i, response in zip(ids, first, strict=True):
        for place in {0, len(response.tokens) // 2, len(response.tokens) - 1}:
            prefix = (*response.tokens[:place], 7)
            revisions.append(rollout(i, prefix, reuse=response.cache, return_cache=True))
    with_cache = answers(engine, revisions)
    without = answers(engine, [replace(r, reuse=None) for r in revisions])
    expected = [
        (*r.prefix, *literal_tail(model, [*r.context.lm, *r.prefix], 12 - len(r.prefix), lm))
        for r in revisions
    ]
    assert [r.value.tokens for r in with_cache] == expected
    assert [r.value.tokens for r in without] == expected
    if return_cache:
        assert all(r.cost.lm_forward == 0 for r in with_cache)
        assert all(r.cost.token_passes == r.cost.generated_tokens for r in with_cache)
        # And once more from the cache of the continuation.
        deeper = [
            replace(r, prefix=(*a.value.tokens[:-1], 8), reuse=a.value.cache)
            for r, a in zip(revisions, with_cache, strict=True)
        ]
        again = responses(engine, deeper)
        fresh = responses(engine, [replace(r, reuse=None) for r in deeper])
        assert [r.tokens for r in again] == [r.tokens for r in fresh]


def literal_tail(model: Any, ids: list[int], limit: int, lm: LanguageModel) -> tuple[int, ...]:
    return literal(model, ids, limit, GREEDY, lm.vocabulary)


def test_a_cache_that_does_not_reach_far_enough_is_not_used(plain: Family):
    lm, model = language_model(plain), plain.raw("lm")
    engine = RolloutEngine(lm, 8, 1 << 20)
    ids = lm.tokenizer.encode("1+1")
    (first,) = responses(engine, [rollout(ids, return_cache=True, limit=4)])
    (found,) = answers(engine, [rollout(ids, (9, 9, 9), reuse=first.cache)])
    assert found.value.tokens == (9, 9, 9, *literal_tail(model, [*ids, 9, 9, 9], 9, lm))
    assert found.cost.lm_forward == 1


def test_samples_of_one_prompt_read_it_once(plain: Family):
    lm = language_model(plain)
    ids = lm.tokenizer.encode("3*7+2")
    requests = [
        replace(rollout(ids, sampling=Sampling(1.0)), key=DrawKey(0, "p", n, "rollout"))
        for n in range(6)
    ]
    found = answers(RolloutEngine(lm, 8, 1 << 20), requests)
    assert sum(r.cost.lm_forward for r in found) == 1
    assert sum(r.cost.token_passes - r.cost.generated_tokens for r in found) == len(ids) - 1
    assert len({r.value.tokens for r in found}) > 1


def test_costs_count_generated_tokens_and_passes(plain: Family):
    lm = language_model(plain)
    ids = lm.tokenizer.encode("3*7+2")
    (found,) = answers(RolloutEngine(lm, 8, 1 << 20), [rollout(ids, (5, 6))])
    cost, new = found.cost, len(found.value.tokens) - 2
    assert new > 0
    assert (cost.rollouts, cost.generated_tokens, cost.paper_calls) == (1, new, new)
    # All but the last prefix token are read first, then one token a step.
    assert cost.token_passes == len(ids) + 1 + new
    assert cost.flops > 0
    assert cost.seconds > 0


def test_forgetting_drops_rows_and_queue(plain: Family):
    lm = language_model(plain)
    engine = RolloutEngine(lm, 2, 1 << 20)
    for ticket in range(5):
        engine.submit(ticket, rollout(lm.tokenizer.encode(PROMPTS[ticket])))
    engine.step()
    engine.forget()
    assert engine.waiting == 0
    assert engine.step() == []


def test_a_sliding_window_sees_its_window_whatever_the_batch(tmp_path: Any):
    tokenizer = characters("0123456789+-*")
    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        sliding_window=4,
        initializer_range=0.25,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    folder = save(tmp_path / "lm", MistralForCausalLM(config), tokenizer)
    family = Family(folder, folder, folder)
    lm, model = language_model(family), family.raw("lm")
    ids = [tokenizer.encode(text) for text in PROMPTS]
    found = responses(RolloutEngine(lm, 8, 1 << 20), [rollout(i, return_cache=True) for i in ids])
    expected = [literal(model, i, 12, GREEDY, lm.vocabulary) for i in ids]
    assert [r.tokens for r in found] == expected


def test_a_rollout_ends_behind_a_separator(family: Family):
    """With the first new token that holds it: one in the prefix does not count."""
    lm = language_model(family)
    engine = RolloutEngine(lm, 4, 1 << 16)
    ids = lm.tokenizer.encode(PROMPTS[2])
    (whole,) = responses(engine, [rollout(ids, limit=12)])
    texts = [lm.tokenizer.decode([t]) for t in whole.tokens]
    separator = texts[3]
    first = texts.index(separator)
    (step,) = responses(engine, [rollout(ids, limit=12, until=separator)])
    assert step.tokens == whole.tokens[: first + 1]
    assert step.finish == "length"
    (after,) = responses(engine, [rollout(ids, step.tokens, limit=12, until=separator)])
    later = [n for n, text in enumerate(texts) if text == separator and n > first]
    end = later[0] + 1 if later else len(whole.tokens)
    assert after.tokens == whole.tokens[:end]
    refused = answers(engine, [rollout(ids, limit=12, until="no such text")])[0]
    assert isinstance(refused, ModelError)
    assert "no such text" in str(refused)
