"""From a conversation to token ids, for the LM and for a reward model.

With a chat template: the template's own rendering, special tokens included, nothing added.
Without one: the turns' contents joined by blank lines, with whatever special tokens the
tokenizer adds by itself.
"""

from __future__ import annotations

from typing import Any

from nabla_core.errors import ModelError
from nabla_core.types import Message, Prompt

# Takes the place of the response while a template is rendered, and is cut out again.
_PLACEHOLDER = "⟦response⟧"


def conversation(prompt: Prompt) -> list[Message]:
    """The turns, with the system prompt in front if the prompt has one."""
    turns = list(prompt.messages)
    if prompt.system is not None:
        turns.insert(0, {"role": "system", "content": prompt.system})
    return turns


def render_for_lm(prompt: Prompt, tokenizer: Any) -> tuple[str, list[int]]:
    """The text the LM continues, and its ids."""
    turns = conversation(prompt)
    if not tokenizer.chat_template:
        text = _plain(turns)
        return text, tokenizer.encode(text)
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return text, tokenizer.encode(text, add_special_tokens=False)


def render_for_reward(prompt: Prompt, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids before and after the response. Raises ModelError where a template leaves it out.

    With a template the caller strips the response's stop token, because the ids after it close
    the turn. Without one nothing follows, and the stop token stays.
    """
    turns = conversation(prompt)
    if not tokenizer.chat_template:
        return tokenizer.encode(_plain(turns)), []
    answered = [*turns, {"role": "assistant", "content": _PLACEHOLDER}]
    text = tokenizer.apply_chat_template(answered, tokenize=False)
    # The last one: a prompt may quote the placeholder.
    before, placeholder, after = text.rpartition(_PLACEHOLDER)
    if not placeholder:
        path = tokenizer.name_or_path
        raise ModelError(f"{path}: the reward model's chat template drops the assistant's turn")
    encode = tokenizer.encode
    return encode(before, add_special_tokens=False), encode(after, add_special_tokens=False)


def _plain(turns: list[Message]) -> str:
    return "\n\n".join(turn["content"] for turn in turns)
