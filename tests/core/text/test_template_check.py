"""Chat templates that cannot be used are found without a prompt."""

from __future__ import annotations

from typing import Any

import pytest

from nabla_core.errors import ModelError
from nabla_core.text.template_check import (
    check_lm_template,
    check_reward_template,
    check_system_turn,
)
from tests.core.chat_templates import (
    DATED,
    FORGETTING,
    NO_SYSTEM,
    PLAIN,
    THINKING,
    chat_tokenizer,
)

USABLE = {
    "plain": PLAIN,
    "think block": THINKING,
    "reasoning left out": FORGETTING,
    "date": DATED,
    "no system turn": NO_SYSTEM,
    "no template": None,
    "named": {"default": PLAIN, "tool_use": "{{ raise_exception('no tools') }}"},
    # As those of Llama 2 and Mistral: nothing begins an answer.
    "no header": "{% for m in messages %}{% if m.role == 'user' %}{{ '[' + m.content + ']' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    "a system turn is needed": "{% if messages[0].role != 'system' %}{{ raise_exception('?') }}"
    "{% endif %}" + PLAIN,
}


@pytest.mark.parametrize("name", USABLE)
def test_usable_templates_pass(name: str):
    tokenizer = chat_tokenizer(USABLE[name])
    check_lm_template(tokenizer, "lm")
    check_reward_template(tokenizer, "rm")


WITHOUT = PLAIN.partition("{%- if add_generation_prompt -%}")[0]
ANSWER = "{{ messages[-1].content if messages[-1].role == 'assistant' }}"
BROKEN: dict[str, tuple[Any, str]] = {
    "refuses": ("{{ raise_exception('not yet') }}", "cannot render a question: not yet"),
    "no program": ("{% for m in %}", "cannot render a question"),
    "drops the question": ("{{ 'hello' }}" + ANSWER, "drops the user's turn or alters it"),
    "cuts the question": ("{{ messages[0].content[1:] }}" + ANSWER, "drops the user's turn"),
    "named, without default": ({"rag": PLAIN, "tool_use": PLAIN}, "no default"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("check", [check_lm_template, check_reward_template])
def test_templates_that_render_no_question_are_refused(name: str, check: Any):
    template, told = BROKEN[name]
    with pytest.raises(ModelError, match=f"^models/one: .*{told}"):
        check(chat_tokenizer(template), "models/one")


def test_a_template_without_a_generation_prompt_is_refused_for_an_lm_alone():
    told = r"lm: its chat template has no generation prompt: .*'<\|im_start\|>assistant\\n' would"
    with pytest.raises(ModelError, match=told):
        check_lm_template(chat_tokenizer(WITHOUT), "lm")
    check_reward_template(chat_tokenizer(WITHOUT), "rm")


QUESTION = "{{ messages[0].content }}"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (QUESTION, "drops the assistant's turn or alters it"),
        (QUESTION + "{{ messages[-1].content | upper }}", "drops the assistant's turn or alters"),
        (QUESTION + "{{ messages[-1].content[2:] }}", "drops the assistant's turn or alters"),
        (QUESTION + ANSWER + "=" + ANSWER, "renders an assistant's turn 2 times"),
    ],
)
def test_templates_that_do_not_carry_an_answer_are_refused_for_a_reward_model(
    template: str, told: str
):
    with pytest.raises(ModelError, match=f"^rm: its chat template {told}"):
        check_reward_template(chat_tokenizer(template), "rm")


def test_a_template_that_takes_no_system_turn_is_refused_where_prompts_have_one():
    for template in (PLAIN, THINKING, DATED, None):
        check_system_turn(chat_tokenizer(template), "rm")
    told = r"rm: its chat template refuses the system turns .* \(System role not supported\); put"
    with pytest.raises(ModelError, match=told):
        check_system_turn(chat_tokenizer(NO_SYSTEM), "rm")
    dropping = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    with pytest.raises(ModelError, match="rm: its chat template leaves out the system turns"):
        check_system_turn(chat_tokenizer(dropping), "rm")
