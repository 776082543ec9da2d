"""The rendering of a conversation by a tokenizer's chat template.

Nothing depends on the clock: templates are told the date of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

from nabla_core.model_config import TEMPLATE_DATE

# Takes the place of the response while a template is rendered, and is cut out again.
PLACEHOLDER = "⟦response⟧"


def render(
    tokenizer: Any,
    turns: Sequence[Mapping[str, object]],
    today: str = TEMPLATE_DATE,
    *,
    generation: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The turns as a text. `today` (YYYY-MM-DD) is the date that the template is told.
    `generation`: with what begins the assistant's turn. `tools` are the JSON Schemas that it is
    told, None or some. Raises what the template raises."""
    text: str = tokenizer.apply_chat_template(
        list(turns),
        tools=None if tools is None else list(tools),
        tokenize=False,
        add_generation_prompt=generation,
        strftime_now=_clock(today),
    )
    return text


def fix_date(tokenizer: Any, today: str) -> None:
    """Let this tokenizer tell templates the date `today` (YYYY-MM-DD) whoever renders with it: a
    trainer of another library, for example."""
    tokenizer.apply_chat_template = partial(
        tokenizer.apply_chat_template, strftime_now=_clock(today)
    )


def _clock(today: str) -> Callable[[str], str]:
    # transformers would give templates the clock. An argument takes precedence.
    return date.fromisoformat(today).strftime
