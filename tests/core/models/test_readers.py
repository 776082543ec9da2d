"""Rewards under input embeddings against one-sequence scoring by ids, and their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nabla_core.engines.loading import reader_for
from nabla_core.errors import ContextError, EncodingError, NonFiniteError
from nabla_core.models.loading import load_language_model, load_reward_model
from nabla_core.models.readers import Reader, RMRead, Task
from nabla_core.requests import Context
from nabla_core.text.templates import render_for_reward
from nabla_core.types import Prompt
from tests.core.tiny import Family, one_hots

CPU: dict[str, Any] = {"revision": None, "device": torch.device("cpu"), "dtype": torch.float32}
ASKED = ["1+1", "7", "9*9-3*3-2*2+1", "0-0-0-0"]
# LM ids of both families; 1 is the stop token. The second was cut off by the limit.
ANSWERED = [(5, 6, 7, 1), (9, 9, 4, 4, 8, 8, 10), (1,), (12, 5, 1)]


def reader(family: Family, role: str = "judge") -> Reader:
    lm = load_language_model(str(family.lm), **CPU)
    return reader_for(load_reward_model(str(getattr(family, role)), **CPU), lm, 0.9)


def frames(of: Reader) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    rendered = [render_for_reward(Prompt.of(t, id=t), of.rm.tokenizer) for t in ASKED]
    return [(tuple(before), tuple(after)) for before, after in rendered]


def tasks(starts: tuple[int, ...] = (0, 0, 0, 0)) -> list[Task]:
    context = Context("", (), ((), ()), ((), ()))
    return [Task(context, y, start) for y, start in zip(ANSWERED, starts, strict=True)]


def literal_ids(family: Family, asked: str, answered: tuple[int, ...]) -> list[int]:
    """What the reward model should read, through text alone."""
    rm, lm = family.tokenizer("judge"), family.tokenizer("lm")
    response = lm.decode(list(answered), skip_special_tokens=True)
    if rm.chat_template:
        return rm.encode(
            f"<|user|>{asked}<eos>\n<|assistant|>{response}<eos>\n", add_special_tokens=False
        )
    return rm.encode(asked + response + ("<eos>" if answered[-1] == 1 else ""))


@torch.no_grad()
def literal_reward(model: Any, ids: list[int]) -> float:
    return float(model(input_ids=torch.tensor([ids])).logits[0, 0])


def expected_rewards(family: Family, role: str = "judge") -> list[float]:
    model = family.raw(role)
    return [
        literal_reward(model, literal_ids(family, asked, answered))
        for asked, answered in zip(ASKED, ANSWERED, strict=True)
    ]


def rewards(reads: list[RMRead]) -> list[float]:
    return [read.reward for read in reads]


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("return_cache", [False, True])
def test_a_padded_batch_scores_as_single_sequences_by_ids(
    family: Family, gradient: bool, return_cache: bool
):
    of = reader(family)
    found = of.read(tasks(), frames(of), gradient=gradient, return_cache=return_cache)
    assert rewards(found) == pytest.approx(expected_rewards(family), abs=1e-5)
    assert len({round(r, 3) for r in rewards(found)}) == len(ANSWERED)


def test_unpadded_single_sequences_score_alike(family: Family):
    of = reader(family)
    found = [
        of.read([task], [frame], gradient=False, return_cache=False)[0]
        for task, frame in zip(tasks(), frames(of), strict=True)
    ]
    assert rewards(found) == pytest.approx(expected_rewards(family), abs=1e-5)


def test_the_stop_token_is_read_exactly_once(family: Family):
    of = reader(family)
    stop = of.rm.tokenizer.eos_token_id
    for (before, after), answered in zip(frames(of), ANSWERED, strict=True):
        body = of.vocabulary.translate(of.body_tokens(answered))
        tail = [*body, *after]
        # With a template the turn is closed even where the response was cut off.
        closed = answered[-1] == 1 or bool(of.rm.tokenizer.chat_template)
        assert tail.count(stop) == int(closed)
        assert [*before, *tail] == literal_ids(
            family, ASKED[frames(of).index((before, after))], answered
        )


def test_caches_give_the_same_rewards(family: Family):
    of = reader(family)
    first = of.read(tasks(), frames(of), gradient=False, return_cache=True)
    revised = [(5, 6, 8, 8, 1), (9, 9, 4, 5), (7,), (12, 5, 1)]
    again = tasks()
    for task, tokens, read in zip(again, revised, first, strict=True):
        task.tokens, task.start, task.cache = tokens, len(tokens), read.cache
    fresh = tasks()
    for task, tokens in zip(fresh, revised, strict=True):
        task.tokens = tokens
    with_cache = of.read(again, frames(of), gradient=False, return_cache=True)
    without = of.read(fresh, frames(of), gradient=False, return_cache=False)
    assert rewards(with_cache) == pytest.approx(rewards(without), abs=1e-5)
    for a, b in zip(again, fresh, strict=True):
        assert a.cost.token_passes < b.cost.token_passes
    # Some rows with a cache, some without, in one batch.
    mixed = [a if n % 2 else b for n, (a, b) in enumerate(zip(again, fresh, strict=True))]
    assert rewards(of.read(mixed, frames(of), gradient=False, return_cache=False)) == pytest.approx(
        rewards(without), abs=1e-5
    )
    # A cache that was itself made behind a cache.
    deeper = tasks()
    for task, tokens, read in zip(deeper, revised, with_cache, strict=True):
        task.tokens, task.start, task.cache = (*tokens[:-1], 6), len(tokens), read.cache
    bare = tasks()
    for task, tokens in zip(bare, revised, strict=True):
        task.tokens = (*tokens[:-1], 6)
    assert rewards(
        of.read(deeper, frames(of), gradient=False, return_cache=False)
    ) == pytest.approx(
        rewards(of.read(bare, frames(of), gradient=False, return_cache=False)), abs=1e-5
    )


def literal_gradient(family: Family, of: Reader, n: int, role: str) -> Tensor:
    """d reward / d one-hot rows over the LM's vocabulary, `[T, V]`, by autograd."""
    model = family.raw(role)
    before, after = frames(of)[n]
    table = model.get_input_embeddings().weight
    in_lm_ids = table[of.vocabulary.ids.clamp(min=0)]
    hot = one_hots(ANSWERED[n], len(of.vocabulary.ids))
    body = hot[: len(of.body_tokens(ANSWERED[n]))]
    inputs = torch.cat([table[list(before)], body @ in_lm_ids, table[list(after)]])
    hidden = model.model(inputs_embeds=inputs[None]).last_hidden_state
    reward = model.score(hidden[0, -1])[0]
    (gradient,) = torch.autograd.grad(reward, hot)
    return gradient


@pytest.mark.parametrize("role", ["judge", "guide"])
@pytest.mark.parametrize("starts", [(0, 0, 0, 0), (2, 5, 1, 0), (4, 7, 0, 2)])
def test_gradients_equal_autograd_through_one_hots(
    family: Family, role: str, starts: tuple[int, ...]
):
    of = reader(family, role)
    caches = [r.cache for r in of.read(tasks(), frames(of), gradient=False, return_cache=True)]
    for remembered in (False, True):
        batch = tasks(starts)
        if remembered:
            for task, cache in zip(batch, caches, strict=True):
                task.cache = cache
        found = of.read(batch, frames(of), gradient=True, return_cache=True)
        assert rewards(found) == pytest.approx(expected_rewards(family, role), abs=1e-5)
        for n, read in enumerate(found):
            assert read.input_gradient is not None
            assert read.start == starts[n]
            rows = read.input_gradient @ of.rm.table[of.ids].T
            expected = literal_gradient(family, of, n, role)[starts[n] :]
            torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)


def test_a_response_beyond_the_context_is_refused(plain: Family):
    of = reader(plain)
    long = Task(tasks()[0].context, (5,) * 62)
    with pytest.raises(ContextError, match="65 tokens to the reward model, whose context is 64"):
        of.read([long], frames(of)[:1], gradient=False, return_cache=False)


def test_a_token_unknown_to_the_reward_model_is_named(plain: Family):
    of = reader(plain)
    of.vocabulary.ids[9] = -1
    with pytest.raises(EncodingError, match="token 9 at position 0"):
        of.read(tasks(), frames(of), gradient=False, return_cache=False)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_reward_that_is_not_finite_is_an_error(plain: Family, gradient: bool):
    of = reader(plain)
    of.rm.table[9] = float("nan")
    assert of.read(tasks()[:1], frames(of)[:1], gradient=gradient, return_cache=False)
    with pytest.raises(NonFiniteError, match="reward is not finite"):
        of.read(tasks(), frames(of), gradient=gradient, return_cache=False)
