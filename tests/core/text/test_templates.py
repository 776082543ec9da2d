"""Prompts as ids, with and without a chat template."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nabla_core.errors import ModelError, RenderError
from nabla_core.models.readers import strip_stop_token
from nabla_core.text.templates import render_for_lm, render_for_reward
from nabla_core.types import Message, Prompt
from tests.core.chat_templates import DATED, appending, chat_tokenizer, metaspace, prepending
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


@pytest.mark.parametrize("bos", [False, True])
def test_a_tokenizer_that_appends_eos_does_not_end_the_prompt_with_it(bos: bool):
    tokenizer = appending("ab\n", bos=bos)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("ab"))[-1] == "<eos>"
    start = ["<bos>"] if bos else []
    text, ids = render_for_lm(Prompt.of("ab", id="p"), tokenizer)
    assert (text, tokenizer.convert_ids_to_tokens(ids)) == ("ab", [*start, "a", "b"])
    before, after = render_for_reward(Prompt.of("ab", id="p"), tokenizer)
    assert tokenizer.convert_ids_to_tokens(before) == [*start, "a", "b"]
    # A reward model reads the text as its tokenizer ends it; the response's own stop token is cut.
    assert tokenizer.convert_ids_to_tokens(after) == ["<eos>"]
    assert strip_stop_token(tokenizer, frozenset({1}), (4, 5, 1)) == (4, 5)
    assert strip_stop_token(characters("ab"), frozenset({1}), (4, 5, 1)) == (4, 5, 1)


@pytest.mark.parametrize("bos", [False, True])
def test_an_empty_prompt_of_such_a_tokenizer_is_no_eos(bos: bool):
    tokenizer = appending("ab", bos=bos)
    assert render_for_lm(Prompt.of("", id="p"), tokenizer)[1] == ([3] if bos else [])


TAILS = ["</s>", "</s>\n", "\n", "\nb", " b", " </s> b", "b c", ""]


@pytest.mark.parametrize("tail", TAILS, ids=repr)
@pytest.mark.parametrize(
    "build",
    [metaspace, lambda t: metaspace(t, scheme="first"), prepending],
    ids=["always", "first", "normaliser"],
)
def test_a_metaspace_tokenizer_adds_no_token_behind_the_response(build: Any, tail: str):
    template = "{{ messages[0]['content'] }}</s>{{ messages[1]['content'] }}"
    template += f"{{{{ {json.dumps(tail)} }}}}"  # Jinja drops a line end at the end of a template
    tokenizer = build(template)
    before, after = render_for_reward(Prompt.of("a b", id="p"), tokenizer)
    whole = tokenizer.encode("a b</s>d" + tail, add_special_tokens=False)
    assert before == tokenizer.encode("a b</s>", add_special_tokens=False)
    # What the tokenizer makes of the whole text, behind the response `d`.
    assert after == whole[len(whole) - len(after) :]
    assert tokenizer.convert_ids_to_tokens(whole[: len(whole) - len(after)])[-1] in ("d", "▁d")


def test_the_date_of_a_template_is_that_of_the_run_and_never_that_of_the_clock():
    tokenizer = chat_tokenizer(DATED)
    prompt = Prompt.of("who?", id="p")
    text, _ = render_for_lm(prompt, tokenizer)
    assert "Today Date: 26 Jul 2024<|im_end|>" in text
    for day, shown in (("2026-11-28", "28 Nov 2026"), ("1999-01-02", "02 Jan 1999")):
        assert f"Today Date: {shown}<" in render_for_lm(prompt, tokenizer, day)[0]
        before, _ = render_for_reward(prompt, tokenizer, day)
        assert f"Today Date: {shown}<" in tokenizer.decode(before)
    hour = chat_tokenizer("{{ strftime_now('%H:%M:%S') }}{{ messages[0].content }}")
    assert render_for_lm(prompt, hour)[0] == "00:00:00who?"
