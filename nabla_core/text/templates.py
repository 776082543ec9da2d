"""From a conversation to token ids, for the LM and for a reward model.

With a chat template: the template's own rendering, special tokens included, nothing added.
Without one: the turns' contents joined by blank lines, with the special tokens that the tokenizer
adds by itself in front; those that it adds behind a text come behind the response.

Every content reaches the text, or the prompt is refused. Names of control tokens in a content are
encoded as text (see `control_tokens`), unless the prompt allows them. A response is never encoded
again: reward models read its tokens, so what the LM wrote as text stays text, and a control token
that it generated stays one.

All that is said of contents holds for tools and for calls of tools in earlier turns too: for every
text in these JSON values, keys included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from nabla_core.errors import ModelError, RenderError
from nabla_core.model_config import TEMPLATE_DATE
from nabla_core.text.chat_template import PLACEHOLDER, render
from nabla_core.text.control_tokens import ControlTokens, added_in
from nabla_core.text.encoding import encode_behind, encode_plain
from nabla_core.text.tools import (
    form_of,
    marker_tool,
    marker_turn,
    missing_call,
    names_of,
    texts_in,
    texts_of_turn,
    turn_with_texts,
    with_texts,
)
from nabla_core.types import Message, Prompt

# Takes the place of the content of a turn, to see whether the template writes it.
_CONTENT = "\ufdd4{}\ufdd5"
# The same for names, which JSON and templates write as they are.
_CALL, _TOOL, _PURPOSE = "nablacall{}n", "nablatool", "a nabla purpose"

Tools = Sequence[Mapping[str, Any]]


def conversation(prompt: Prompt) -> list[Message]:
    """The turns, with the system prompt in front if the prompt has one."""
    turns = list(prompt.messages)
    if prompt.system is not None:
        turns.insert(0, {"role": "system", "content": prompt.system})
    return turns


def render_for_lm(
    prompt: Prompt, tokenizer: Any, today: str = TEMPLATE_DATE
) -> tuple[str, list[int]]:
    """The text the LM continues, and its ids. `today` (YYYY-MM-DD) is the date that templates are
    told. Raises RenderError where the template or the tokenizer does not carry the prompt as it
    is."""
    with _naming(prompt):
        rendered = _render(prompt, tokenizer, today, answered=False)
        if tokenizer.chat_template:
            return rendered.text, rendered.encode(rendered.marked, False)
        return rendered.text, encode_plain(tokenizer, rendered.encode, rendered.marked)[0]


def render_for_reward(
    prompt: Prompt, tokenizer: Any, today: str = TEMPLATE_DATE
) -> tuple[list[int], list[int]]:
    """Ids before and after the response. Raises ModelError where a template leaves it out, and
    RenderError as `render_for_lm` does.

    Where `encoding.closes_turn`, the caller strips the response's stop token, because the ids after
    it close the turn. Otherwise nothing follows, and the stop token stays.
    """
    with _naming(prompt):
        rendered = _render(prompt, tokenizer, today, answered=True)
        if not tokenizer.chat_template:
            return encode_plain(tokenizer, rendered.encode, rendered.marked)
        # The last one: a prompt may quote the placeholder.
        before, placeholder, after = rendered.marked.rpartition(PLACEHOLDER)
        if not placeholder:
            path = tokenizer.name_or_path
            raise ModelError(
                f"{path}: the reward model's chat template drops the assistant's turn or alters it"
            )
        return rendered.encode(before, False), encode_behind(rendered.encode, after)


class _Renderer:
    """A tokenizer with its chat template, or with the plain form."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template = tokenizer.chat_template
        self._by_form: dict[tuple[Any, ...], ControlTokens] = {}
        self._by_written: dict[frozenset[str], ControlTokens] = {}

    def text(
        self,
        turns: Sequence[Message],
        tools: Tools | None,
        today: str = TEMPLATE_DATE,
        *,
        answered: bool,
    ) -> str:
        """The turns as a text: with a template up to the response, or with its placeholder."""
        if not self.template:
            return "\n\n".join(turn["content"] for turn in turns)
        if answered:
            turns = [*turns, {"role": "assistant", "content": PLACEHOLDER}]
        return render(self.tokenizer, turns, today, generation=not answered, tools=tools)

    def control(
        self, turns: Sequence[Message], tools: Tools | None, *, answered: bool
    ) -> ControlTokens:
        """The control tokens of a conversation of this form. Raises RenderError where the template
        leaves out a turn, a call or the tools."""
        key = tuple(form_of(turn) for turn in turns), bool(tools), answered
        known = self._by_form.get(key)
        if known is None:
            known = self._by_form[key] = self._read_form(turns, tools, answered=answered)
        return known

    def _read_form(
        self, turns: Sequence[Message], tools: Tools | None, *, answered: bool
    ) -> ControlTokens:
        ids: dict[str, str] = {}
        marked = [
            marker_turn(turn, _CONTENT.format(n), _CALL.format(n), ids)
            for n, turn in enumerate(turns)
        ]
        told = [marker_tool(_TOOL, _PURPOSE)] if tools else None
        text = self.text(marked, told, answered=answered)
        name = self.tokenizer.name_or_path
        if tools and (_TOOL not in text or _PURPOSE not in text):
            raise RenderError(_without_tools(name, bool(self.template)))
        for n, turn in enumerate(marked):
            if turn["content"] not in text:
                raise RenderError(
                    f"the chat template of {name} leaves out the {turn['role']} message"
                )
            calls = range(len(turn.get("tool_calls", ())))
            marks = [f"{_CALL.format(n)}{k}{part}" for k in calls for part in ("name", "value")]
            if any(mark not in text for mark in marks):
                raise RenderError(
                    f"the chat template of {name} leaves out the tool calls of turn {n + 1}"
                    if self.template
                    else f"{name} has no chat template, which tool calls need"
                )
        written = added_in(self.tokenizer, text)
        # One for all forms that write the same tokens: it may come to hold a copy of the tokenizer.
        return self._by_written.setdefault(written, ControlTokens(self.tokenizer, written))


def _without_tools(name: str, template: bool) -> str:
    reason = (
        f"the chat template of {name} leaves out the tools of the prompt"
        if template
        else f"{name} has no chat template, which tools need"
    )
    return (
        f"{reason}: take a model whose template writes them, or remove them; of a judge and a "
        "guide, reward.tools=hidden does without"
    )


# What is known of a tokenizer is kept as long as it is: it may read millions of prompts.
_RENDERERS: WeakKeyDictionary[Any, _Renderer] = WeakKeyDictionary()


def _renderer(tokenizer: Any) -> _Renderer:
    known = _RENDERERS.get(tokenizer)
    if known is None or known.template != tokenizer.chat_template:
        known = _RENDERERS[tokenizer] = _Renderer(tokenizer)
    return known


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendered:
    """A rendered prompt. `marked`: the text with marks in place of the `found` names of control
    tokens. `control` is None where the prompt may hold control tokens."""

    text: str
    marked: str
    found: Sequence[str]
    tokenizer: Any
    control: ControlTokens | None

    def encode(self, part: str, add: bool) -> list[int]:
        """The ids of a part of `marked`. `add`: with the tokenizer's own special tokens around."""
        if self.control is None:
            ids: list[int] = self.tokenizer.encode(part, add_special_tokens=add)
            return ids
        if self.found:
            return self.control.encode_masked(part, self.found, add_special_tokens=add)
        return self.control.encode(part, add_special_tokens=add)


def _render(prompt: Prompt, tokenizer: Any, today: str, *, answered: bool) -> _Rendered:
    renderer, turns, tools = _renderer(tokenizer), conversation(prompt), prompt.tools
    control = renderer.control(turns, tools, answered=answered)
    text = marked = renderer.text(turns, tools, today, answered=answered)
    _check_carried(turns, tools, text, tokenizer.name_or_path)
    found: list[str] = []
    texts = [*(t for turn in turns for t in texts_of_turn(turn)), *texts_in(tools)]
    if not prompt.allow_special_tokens and control.are_in(texts):

        def masked(text: str) -> str:
            return control.masked(text, found)

        marked = renderer.text(
            [turn_with_texts(turn, masked) for turn in turns],
            None if tools is None else with_texts(tools, masked),
            today,
            answered=answered,
        )
        text = control.unmasked(marked, found)
        if tools or any("tool_calls" in turn for turn in turns):
            control.check_marks(marked, found)
    return _Rendered(
        text=text,
        marked=marked,
        found=found,
        tokenizer=tokenizer,
        control=None if prompt.allow_special_tokens else control,
    )


def _check_carried(turns: Sequence[Message], tools: Tools | None, text: str, name: str) -> None:
    """Raises RenderError where a rendering lacks a content, or the name of a call or a tool."""
    for n, turn in enumerate(turns, start=1):
        # Many templates leave out spaces around a content. Some write results of tools as JSON.
        content = turn["content"].strip()
        if content not in text and not (
            turn["role"] == "tool" and json.dumps(content, ensure_ascii=False)[1:-1] in text
        ):
            raise RenderError(f"the chat template of {name} alters turn {n} ({turn['role']})")
        if (call := missing_call(turn, text)) is not None:
            raise RenderError(f"the chat template of {name} alters the call of {call} in turn {n}")
    for tool in names_of(tools or ()):
        if tool not in text:
            raise RenderError(f"the chat template of {name} leaves out or alters the tool {tool}")


@contextmanager
def _naming(prompt: Prompt) -> Iterator[None]:
    try:
        yield
    except RenderError as error:
        raise RenderError(f"prompt {prompt.id}: {error}") from error
