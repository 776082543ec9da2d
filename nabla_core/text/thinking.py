"""Think blocks: what a reward model reads of a response that begins with its reasoning.

Templates as that of Qwen3 write an empty block (`<think>`, two line ends, `</think>`, two line
ends) in front of an answer without reasoning, and the reasoning into the block of an answer that
has it. The ids in front of a response therefore depend on the response: those of a response with a
block of its own end before the empty one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nabla_core.errors import EncodingError, ModelError
from nabla_core.text.chat_template import PLACEHOLDER, render
from nabla_core.types import Message

TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))
_REASONING = "⟦reasoning⟧"
_SYSTEM: Message = {"role": "system", "content": "."}
_QUESTION: Message = {"role": "user", "content": "?"}


@dataclass(frozen=True)
class ThinkBlock:
    """How a chat template treats reasoning.

    `empty`: the ids of the empty block in front of an answer; without any the template writes none.
    `opening`: the first of them, up to where reasoning begins. `drops`: the template leaves out
    what a response thinks.
    """

    open: str
    close: str
    empty: tuple[int, ...]
    opening: tuple[int, ...]
    drops: bool

    def before(self, before: tuple[int, ...], response: str) -> tuple[int, ...]:
        """The ids in front of a response with this text, of the ids in front of one without
        reasoning. Raises EncodingError where the template would leave out the reasoning."""
        opens = response.lstrip().startswith(self.open)
        if not opens and self.close not in response:
            return before
        if self.drops:
            raise EncodingError(
                f"the response reasons ({self.open} ... {self.close}), and the reward model's chat "
                "template leaves reasoning out; use reward models that read it, or an LM that "
                "writes none"
            )
        if not self.empty or before[-len(self.empty) :] != self.empty:
            return before
        header = before[: -len(self.empty)]
        # Where the LM's prompt opened the block, the response only closes it.
        return header if opens else header + self.opening


def before_response(
    block: ThinkBlock | None, tokenizer: Any, before: tuple[int, ...], body: Sequence[int]
) -> tuple[int, ...]:
    """The ids in front of a response with the ids `body`; see `ThinkBlock.before`."""
    if block is None:
        return before
    return block.before(before, tokenizer.decode(list(body), skip_special_tokens=False))


def think_block(tokenizer: Any) -> ThinkBlock | None:
    """How the template of a tokenizer treats reasoning; None where it knows none. Raises ModelError
    where its empty block has no ids of its own."""
    if not tokenizer.chat_template:
        return None
    for opening, closing in TAGS:
        found = _probe(tokenizer, opening, closing)
        if found is not None:
            return found
    return None


def _probe(tokenizer: Any, opening: str, closing: str) -> ThinkBlock | None:
    """How the template treats reasoning between these tags: it is shown an answer with it and one
    without."""
    plain, found, _ = _rendered(tokenizer, PLACEHOLDER).rpartition(PLACEHOLDER)
    if not found:
        return None
    own = _rendered(tokenizer, f"{opening}\n{_REASONING}\n{closing}\n\n{PLACEHOLDER}")
    drops = _REASONING not in own
    start = plain.rfind(opening)
    block = plain[start:] if start >= 0 else ""
    inside, closed, behind = block.removeprefix(opening).partition(closing)
    if not closed or inside.strip() or behind.strip():
        return ThinkBlock(opening, closing, (), (), drops) if drops else None
    header = plain[:start]
    reasoned = own.partition(_REASONING)[0]
    begins = opening + inside[:1] if drops else reasoned.removeprefix(header)
    return ThinkBlock(
        opening,
        closing,
        empty=_ids_behind(tokenizer, header, block),
        opening=_ids_behind(tokenizer, header, begins),
        drops=drops,
    )


def _rendered(tokenizer: Any, answer: str) -> str:
    """A question and the answer; empty where the template can render neither of two forms."""
    turns: list[Message] = [_QUESTION, {"role": "assistant", "content": answer}]
    for form in (turns, [_SYSTEM, *turns]):
        # `template_check` says what is wrong with a template that renders nothing.
        with suppress(Exception):
            return render(tokenizer, form)
    return ""


def _ids_behind(tokenizer: Any, header: str, text: str) -> tuple[int, ...]:
    first = tokenizer.encode(header, add_special_tokens=False)
    both = tokenizer.encode(header + text, add_special_tokens=False)
    if both[: len(first)] != first:
        raise ModelError(
            f"{tokenizer.name_or_path}: its chat template writes {text!r} in front of an answer, "
            "and its tokenizer has no token that begins there"
        )
    return tuple(both[len(first) :])
