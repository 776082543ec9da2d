"""Chat templates that cannot be used, found when models are loaded: a template is a program, and
would otherwise fail prompt by prompt.

A template may refuse single prompts all the same (two turns of one role, say); those are errors of
these prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nabla_core.errors import ModelError
from nabla_core.text.chat_template import PLACEHOLDER, render
from nabla_core.text.thinking import think_block
from nabla_core.text.tools import marker_tool
from nabla_core.types import Message

_SYSTEM: Message = {"role": "system", "content": "⟦system⟧"}
_USER: Message = {"role": "user", "content": "⟦question⟧"}
_ANSWER: Message = {"role": "assistant", "content": PLACEHOLDER}


def check_lm_template(tokenizer: Any, source: str) -> None:
    """Raises ModelError where an LM's chat template cannot render a question, or does not begin
    the answer."""
    if not tokenizer.chat_template:
        return
    asked = _rendered(tokenizer, source, [_USER], generation=True)
    _require(_USER, asked, source)
    if asked != _rendered(tokenizer, source, [_USER]):
        return
    # No header for an answer is asked for. Some templates have none at all.
    answered = _attempt(tokenizer, [_USER, _ANSWER])
    if isinstance(answered, Exception):
        return
    header = answered.partition(PLACEHOLDER)[0].removeprefix(asked)
    if header.strip() and header != answered:
        raise ModelError(
            f"{source}: its chat template has no generation prompt: nothing says that the answer "
            f"begins, {header!r} would; add it to the template under "
            "{% if add_generation_prompt %}"
        )


def check_reward_template(tokenizer: Any, source: str) -> None:
    """Raises ModelError where a reward model's chat template cannot render a question and its
    answer, or not the answer as it is."""
    if not tokenizer.chat_template:
        return
    text = _rendered(tokenizer, source, [_USER, _ANSWER])
    _require(_USER, text, source)
    if (times := text.count(PLACEHOLDER)) != 1:
        raise ModelError(
            f"{source}: its chat template renders an assistant's turn {times} times as it is, "
            "where 1 is needed to judge it"
            if times
            else f"{source}: its chat template drops the assistant's turn or alters it"
        )
    think_block(tokenizer)


def check_system_turn(tokenizer: Any, source: str) -> None:
    """Raises ModelError where a chat template refuses system turns or leaves them out."""
    if not tokenizer.chat_template:
        return
    found = _attempt(tokenizer, [_SYSTEM, _USER])
    advice = "put the text into the user's turn (prompts.system adds a system turn to every prompt)"
    if isinstance(found, Exception):
        raise ModelError(
            f"{source}: its chat template refuses the system turns of these prompts ({found}); "
            f"{advice}"
        ) from found
    if _SYSTEM["content"] not in found:
        raise ModelError(
            f"{source}: its chat template leaves out the system turns of these prompts; {advice}"
        )


def check_tools(tokenizer: Any, source: str) -> None:
    """Raises ModelError where a chat template refuses tools or leaves them out."""
    advice = "take a model whose template writes tools, or remove them from the prompts"
    if not tokenizer.chat_template:
        raise ModelError(f"{source} has no chat template, which tools need: {advice}")
    tools = [marker_tool("⟦tool⟧", "⟦purpose⟧")]
    found = _attempt(tokenizer, [_USER], tools=tools)
    if isinstance(found, Exception):
        found = _attempt(tokenizer, [_SYSTEM, _USER], tools=tools)
    if isinstance(found, Exception):
        raise ModelError(
            f"{source}: its chat template refuses the tools of these prompts ({found}); {advice}"
        ) from found
    if "⟦tool⟧" not in found:
        raise ModelError(
            f"{source}: its chat template leaves out the tools of these prompts: {advice}"
        )


def _rendered(
    tokenizer: Any, source: str, turns: Sequence[Message], *, generation: bool = False
) -> str:
    """The rendering of turns, with a system turn in front if the template needs one."""
    found = _attempt(tokenizer, turns, generation=generation)
    if isinstance(found, str):
        return found
    again = _attempt(tokenizer, [_SYSTEM, *turns], generation=generation)
    if isinstance(again, str):
        return again
    raise ModelError(f"{source}: its chat template cannot render a question: {found}") from found


def _attempt(
    tokenizer: Any,
    turns: Sequence[Message],
    *,
    generation: bool = False,
    tools: Sequence[dict[str, Any]] | None = None,
) -> str | Exception:
    try:
        return render(tokenizer, turns, generation=generation, tools=tools)
    except Exception as error:  # noqa: BLE001 - a template is a program and raises what it likes
        return error


def _require(turn: Message, text: str, source: str) -> None:
    if turn["content"] not in text:
        raise ModelError(f"{source}: its chat template drops the user's turn or alters it")
