"""Texts of a student's tokenizer are those that a run makes with it."""

from nabla_core.text.templates import render_for_lm
from nabla_core.types import Prompt
from pipeline.export.student import Student
from tests.core.chat_templates import DATED, appending, chat_tokenizer

QUESTION = [{"role": "user", "content": "who?"}]


def test_a_dated_template_is_told_the_date_of_runs_and_not_the_clock():
    student = Student("s", chat_tokenizer(DATED), frozenset({4}), "")
    assert "Today Date: 26 Jul 2024" in student._render(QUESTION, "row 1")


def test_a_prompt_without_a_template_has_the_ids_that_the_lm_read():
    for tokenizer in (appending("ab", bos=True), appending("ab", bos=False)):
        text, ids = render_for_lm(Prompt.of("ab", id="p"), tokenizer)
        assert Student("s", tokenizer, frozenset({1}), "").prompt_ids(text) == ids
