"""From a conversation to token ids, for the LM and for a reward model.

With a chat template: the template's own rendering, special tokens included, nothing added.
Without one: the turns' contents joined by blank lines, with the special tokens that the tokenizer
adds by itself in front; those that it adds behind a text come behind the response.

Every content reaches the text, or the prompt is refused. Names of control tokens in a content are
encoded as text (see `control_tokens`), unless the prompt allows them. A response is never encoded
again: reward models read its tokens, so what the LM wrote as text stays text, and a control token
that it generated stays one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from nabla_core.errors import ModelError, RenderError
from nabla_core.model_config import TEMPLATE_DATE
from nabla_core.text.chat_template import PLACEHOLDER, render
from nabla_core.text.control_tokens import ControlTokens, added_in
from nabla_core.text.encoding import encode_behind, encode_plain
from nabla_core.types import Message, Prompt

# Takes the place of the content of a turn, to see whether the template writes it.
_CONTENT = "\ufdd4{}\ufdd5"


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
        self._by_roles: dict[tuple[tuple[str, ...], bool], ControlTokens] = {}
        self._by_written: dict[frozenset[str], ControlTokens] = {}

    def text(self, turns: Sequence[Message], today: str = TEMPLATE_DATE, *, answered: bool) -> str:
        """The turns as a text: with a template up to the response, or with its placeholder."""
        if not self.template:
            return "\n\n".join(turn["content"] for turn in turns)
        if answered:
            turns = [*turns, {"role": "assistant", "content": PLACEHOLDER}]
        return render(self.tokenizer, turns, today, generation=not answered)

    def control(self, turns: Sequence[Message], *, answered: bool) -> ControlTokens:
        """The control tokens of a conversation with these roles. Raises RenderError where the
        template leaves out a turn."""
        key = tuple(turn["role"] for turn in turns), answered
        known = self._by_roles.get(key)
        if known is None:
            known = self._by_roles[key] = self._read_form(key[0], answered=answered)
        return known

    def _read_form(self, roles: Sequence[str], *, answered: bool) -> ControlTokens:
        turns: list[Message] = [
            {"role": role, "content": _CONTENT.format(n)} for n, role in enumerate(roles)
        ]
        text = self.text(turns, answered=answered)
        for turn in turns:
            if turn["content"] not in text:
                raise RenderError(
                    f"the chat template of {self.tokenizer.name_or_path} leaves out the "
                    f"{turn['role']} message"
                )
        written = added_in(self.tokenizer, text)
        # One for all forms that write the same tokens: it may come to hold a copy of the tokenizer.
        return self._by_written.setdefault(written, ControlTokens(self.tokenizer, written))


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
    renderer, turns = _renderer(tokenizer), conversation(prompt)
    control = renderer.control(turns, answered=answered)
    text = marked = renderer.text(turns, today, answered=answered)
    for n, turn in enumerate(turns, start=1):
        # Many templates leave out spaces around a content.
        if turn["content"].strip() not in text:
            raise RenderError(
                f"the chat template of {tokenizer.name_or_path} alters turn {n} ({turn['role']})"
            )
    found: list[str] = []
    if not prompt.allow_special_tokens and control.are_in(turn["content"] for turn in turns):
        masked: list[Message] = [
            {"role": turn["role"], "content": control.masked(turn["content"], found)}
            for turn in turns
        ]
        marked = renderer.text(masked, today, answered=answered)
        text = control.unmasked(marked, found)
    return _Rendered(
        text=text,
        marked=marked,
        found=found,
        tokenizer=tokenizer,
        control=None if prompt.allow_special_tokens else control,
    )


@contextmanager
def _naming(prompt: Prompt) -> Iterator[None]:
    try:
        yield
    except RenderError as error:
        raise RenderError(f"prompt {prompt.id}: {error}") from error
