"""The first prompts of a run as its models read them, and whether they fit their contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nabla_core.errors import ModelError
from nabla_core.model_config import TEMPLATE_DATE, ToolsFor
from nabla_core.types import Prompt
from pipeline.preview.models import Models
from pipeline.printable import shown

if TYPE_CHECKING:
    from nabla_core.models.outline import Outline

# So many prompts are rendered: enough to meet other forms than the first, in a second.
MOST = 100
RESPONSE = "⟦response⟧"


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The first prompt as LM and judge read it, special tokens spelled out, each with its number
    of tokens, and what to say of all prompts that were rendered. Without a judge `judge` is None.

    `tokens` is their mean length to the LM.
    """

    lm: str
    lm_tokens: int
    judge: str | None
    judge_tokens: int
    tokens: float
    warnings: list[str]


def render(
    prompts: Sequence[Prompt],
    models: Models,
    max_tokens: int,
    today: str = TEMPLATE_DATE,
    tools: ToolsFor = "shown",
) -> Rendered:
    """`today` is the date that templates are told; `tools`: whether judge and guide read those of
    prompts. Raises ModelError naming the first prompt that a
    model's template refuses, or where not one of the prompts fits a context."""
    from nabla_core.text.templates import (  # noqa: PLC0415 - see pipeline.preview.models
        render_for_lm,
        render_for_reward,
    )

    guide = None if models.guide is models.judge else models.guide
    for_lm, longest = [], 0
    for_judge: list[tuple[list[int], list[int]]] = []
    for prompt in prompts:
        model = models.lm
        try:
            for_lm.append(render_for_lm(prompt, model.tokenizer, today)[1])
            told = prompt if tools == "shown" else prompt.without_tools()
            if models.judge is not None:
                model = models.judge
                for_judge.append(render_for_reward(told, model.tokenizer, today))
            if guide is not None:
                model = guide
                before, after = render_for_reward(told, model.tokenizer, today)
                longest = max(longest, len(before) + len(after))
        # Any: a template is a program, and some refuse a system prompt.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ModelError(
                f"{model.source} cannot render prompt {shown(prompt.id)}: {reason}"
            ) from error
    lengths = [len(ids) for ids in for_lm]
    judged = [len(before) + len(after) for before, after in for_judge]
    warnings = _lm_fit(prompts, lengths, models.lm, max_tokens)
    shown_judge = None
    if models.judge is not None:
        warnings += _reader_fit("judge", max(judged), models.judge.context, max_tokens)
        before, after = for_judge[0]
        decode = models.judge.tokenizer.decode
        shown_judge = f"{decode(before)}{RESPONSE}{decode(after)}"
    if guide is not None:
        warnings += _reader_fit("guide", longest, guide.context, max_tokens)
    return Rendered(
        lm=models.lm.tokenizer.decode(for_lm[0]),
        lm_tokens=lengths[0],
        judge=shown_judge,
        judge_tokens=judged[0] if judged else 0,
        tokens=sum(lengths) / len(lengths),
        warnings=warnings,
    )


def _lm_fit(
    prompts: Sequence[Prompt], lengths: Sequence[int], model: Outline, max_tokens: int
) -> list[str]:
    source, context = model.source, model.context
    empty = [p.id for p, length in zip(prompts, lengths, strict=True) if not length]
    if len(empty) == len(prompts):
        raise ModelError(
            f"{source}: its tokenizer has no token for any of the first {len(prompts)} prompts; "
            "are its files whole?"
        )
    too_long = [p.id for p, length in zip(prompts, lengths, strict=True) if length >= context]
    if len(too_long) == len(prompts):
        raise ModelError(
            f"no prompt fits the LM's context of {context} tokens: the shortest of the first "
            f"{len(prompts)} has {min(lengths)}"
        )
    if empty:
        return [f"{len(empty)} prompts are empty to the LM, {shown(empty[0])} for example"]
    if too_long:
        return [
            f"{len(too_long)} of the first {len(prompts)} prompts do not fit the LM's context of "
            f"{context} tokens and would be dead letters, {shown(too_long[0])} for example"
        ]
    longest = max(lengths)
    if longest + max_tokens > context:
        return [
            f"the LM's context of {context} tokens ends a response to the longest of the first "
            f"prompts ({longest} tokens) after {context - longest} of max_tokens={max_tokens}"
        ]
    return []


def _reader_fit(role: str, longest: int, context: int, max_tokens: int) -> list[str]:
    if longest >= context:
        return [f"the {role}'s context of {context} tokens cannot hold a prompt of {longest}"]
    if longest + max_tokens > context:
        return [
            f"the {role}'s context of {context} tokens holds responses of {context - longest} "
            f"tokens to the longest of the first prompts, and max_tokens is {max_tokens}: it can "
            "read no longer ones"
        ]
    return []
