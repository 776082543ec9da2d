"""Prompts as ids, with and without a chat template."""

from __future__ import annotations

import pytest

from nabla_core.errors import ModelError, RenderError
from nabla_core.models.templates import render_for_lm, render_for_reward
from nabla_core.types import Message, Prompt
from tests.core.tiny import CHAT, ROLES, characters

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


NO_DEVELOPER = (
    "{% for m in messages %}{% if m['role'] in ('user', 'assistant') %}"
    "<|{{ m['role'] }}|>{{ m['content'].split('/')[-1] }}{% endif %}{% endfor %}<|assistant|>"
)


@pytest.mark.parametrize("role", ["system", "developer", "tool"])
def test_a_turn_that_the_template_leaves_out_is_refused(role: str):
    tokenizer = characters("a", more=ROLES, template=NO_DEVELOPER)
    prompt = Prompt("p", ({"role": role, "content": "a"}, *turns("a")))
    for render in (render_for_lm, render_for_reward):
        with pytest.raises(RenderError, match=f"prompt p: .* leaves out the {role} message"):
            render(prompt, tokenizer)


def test_a_content_that_the_template_cuts_is_refused():
    tokenizer = characters("a/", more=ROLES, template=NO_DEVELOPER)
    assert render_for_lm(Prompt.of("aa", id="p"), tokenizer)[0] == "<|user|>aa<|assistant|>"
    with pytest.raises(RenderError, match=r"prompt p: .* alters turn 1 \(user\)"):
        render_for_lm(Prompt.of("a/a", id="p"), tokenizer)
