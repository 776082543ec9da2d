"""Prompts as ids, with and without a chat template."""

from __future__ import annotations

import pytest

from nabla_core.engines.base import Engines
from nabla_core.errors import ModelError
from nabla_core.models.templates import render_for_lm, render_for_reward
from nabla_core.requests import Context, Decode, Render
from nabla_core.types import Message, Prompt
from tests.core.tiny import CHAT, ROLES, Family, characters

PLAIN = characters("abc\n", bos=True)
CHATTY = characters("abcsy\n<|>", bos=True, more=ROLES, template="<bos>" + CHAT)


def turns(*contents: str) -> tuple[Message, ...]:
    roles = ("user", "assistant")
    return tuple({"role": roles[n % 2], "content": text} for n, text in enumerate(contents))


def test_without_a_template_the_tokenizer_adds_its_bos_once():
    text, ids = render_for_lm(Prompt.of("ab", id="p"), PLAIN)
    assert (text, ids) == ("ab", PLAIN.convert_tokens_to_ids(["<bos>", "a", "b"]))


def test_without_a_template_turns_and_system_prompt_are_joined_by_blank_lines():
    prompt = Prompt("p", turns("a", "b", "c"), system="cc")
    text, ids = render_for_lm(prompt, PLAIN)
    assert text == "cc\n\na\n\nb\n\nc"
    before, after = render_for_reward(prompt, PLAIN)
    assert (before, after) == (ids, [])


def test_with_a_template_its_special_tokens_are_not_doubled():
    text, ids = render_for_lm(Prompt.of("ab", id="p"), CHATTY)
    assert text == "<bos><|user|>ab<eos>\n<|assistant|>"
    assert CHATTY.convert_ids_to_tokens(ids) == [
        "<bos>", "<|user|>", "a", "b", "<eos>", "Ċ", "<|assistant|>",
    ]  # fmt: skip


def test_with_a_template_the_system_prompt_comes_first_for_both_models():
    prompt = Prompt("p", turns("a", "b", "c"), system="sys")
    text, _ = render_for_lm(prompt, CHATTY)
    rendered = "<|system|>sys<eos>\n<|user|>a<eos>\n<|assistant|>b<eos>\n<|user|>c<eos>\n"
    assert text == f"<bos>{rendered}<|assistant|>"
    before, after = render_for_reward(prompt, CHATTY)
    assert CHATTY.decode(before) == f"<bos>{rendered}<|assistant|>"
    assert CHATTY.convert_ids_to_tokens(after) == ["<eos>", "Ċ"]


def test_a_prompt_without_a_system_prompt_gets_none():
    assert "system" not in render_for_lm(Prompt.of("a", id="p"), CHATTY)[0]


def test_a_prompt_that_holds_the_place_marker_is_framed_all_the_same():
    tokenizer = characters("aresponse\n", more=ROLES, template=CHAT)  # knows no ⟦ or ⟧
    before, after = render_for_reward(Prompt.of("a⟦response⟧a", id="p"), tokenizer)
    assert tokenizer.decode(before) == "<|user|>aresponsea<eos>\n<|assistant|>"
    assert tokenizer.decode(after) == "<eos>\n"


def test_a_template_that_drops_the_answer_is_refused():
    tokenizer = characters("a", template="{{ messages[0]['content'] }}")
    with pytest.raises(ModelError, match="drops the assistant's turn"):
        render_for_reward(Prompt.of("a", id="p"), tokenizer)


def ask(engines: Engines, request: object) -> object:
    engine = engines.serving(type(request))  # type: ignore[arg-type]
    engine.submit(0, request)  # type: ignore[arg-type]
    ((_, result),) = engine.step()
    if isinstance(result, Exception):
        raise result
    return result.value


def test_render_shows_every_model_its_own_ids(grouped: Family):
    engines = grouped.engines()
    prompt = Prompt("p", turns("1+1"), system="b")
    context = ask(engines, Render(prompt))
    assert isinstance(context, Context)
    lm, judge = grouped.tokenizer("lm"), grouped.tokenizer("judge")
    assert context.text == "b\n\n1+1"
    assert context.lm == tuple(lm.encode("b\n\n1+1"))
    assert context.lm.count(lm.bos_token_id) == 1
    assert judge.decode(context.judge[0]) == "<|system|>b<eos>\n<|user|>1+1<eos>\n<|assistant|>"
    assert judge.decode(context.judge[1]) == "<eos>\n"
    assert context.guide == context.judge


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "prompt p is empty"), ("7" * 64, r"prompt p is 64 tokens long; the LM's context is 64")],
)
def test_prompts_that_cannot_be_answered_are_refused(plain: Family, text: str, named: str):
    from nabla_core.errors import ContextError  # noqa: PLC0415

    with pytest.raises(ContextError, match=named):
        ask(plain.engines(), Render(Prompt.of(text, id="p")))


def test_decode_leaves_special_tokens_out_unless_asked(plain: Family):
    engines = plain.engines()
    tokens = ((10, 13, 1), (1,))
    assert ask(engines, Decode(tokens)) == ["7+", ""]
    assert ask(engines, Decode(tokens, special=True)) == ["7+<eos>", "<eos>"]
