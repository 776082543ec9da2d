"""Rendering prompts to ids, and decoding ids to texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nabla_core.engines.base import BatchEngine
from nabla_core.errors import ContextError
from nabla_core.models.loading import LanguageModel, RewardModel
from nabla_core.models.templates import render_for_lm, render_for_reward
from nabla_core.models.vocab import require_known
from nabla_core.requests import Context, Decode, Render, Reply, Request, Result
from nabla_core.types import Prompt


class TextEngine(BatchEngine):
    """Serves `Render` and `Decode` with the models' tokenizers."""

    kinds: tuple[type[Request[Any]], ...] = (Render, Decode)
    # Served at once, not in full batches: a flow that renders is about to use the big engines,
    # and a flow that decodes is about to end and make room for another prompt.
    cheap = True

    def __init__(
        self, lm: LanguageModel, judge: RewardModel, guide: RewardModel | LanguageModel
    ) -> None:
        super().__init__(capacity=1024)
        self._lm, self._judge, self._guide = lm, judge, guide

    def answer(self, requests: Sequence[Render | Decode]) -> Sequence[Result]:
        return [
            Reply(self._context(r.prompt) if isinstance(r, Render) else self._texts(r))
            for r in requests
        ]

    def _context(self, prompt: Prompt) -> Context:
        text, ids = render_for_lm(prompt, self._lm.tokenizer)
        if not ids:
            raise ContextError(f"prompt {prompt.id} is empty; the LM needs at least one token")
        if len(ids) >= self._lm.context:
            raise ContextError(
                f"prompt {prompt.id} is {len(ids)} tokens long; the LM's context is "
                f"{self._lm.context} and must hold a response too"
            )
        require_known(ids, self._lm.table.size(0), f"prompt {prompt.id}")
        judge = _frame(prompt, self._judge)
        # One model in both roles reads the same ids.
        guide = judge if self._guide is self._judge else _frame(prompt, self._guide)
        return Context(text, tuple(ids), judge, guide, prompt.id)

    def _texts(self, request: Decode) -> list[str]:
        decode = self._lm.tokenizer.decode
        return [decode(list(s), skip_special_tokens=not request.special) for s in request.sequences]


def _frame(
    prompt: Prompt, model: RewardModel | LanguageModel
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    before, after = render_for_reward(prompt, model.tokenizer)
    require_known([*before, *after], model.table.size(0), f"prompt {prompt.id}, for the judge,")
    return tuple(before), tuple(after)
