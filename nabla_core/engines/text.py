"""Rendering prompts to ids, and decoding ids to texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nabla_core.engines.base import BatchEngine
from nabla_core.errors import ContextError, NablaError, RenderError
from nabla_core.model_config import TEMPLATE_DATE, ToolsFor
from nabla_core.models.loading import LanguageModel, RewardModel
from nabla_core.models.vocab import require_known
from nabla_core.requests import Context, Decode, Render, Reply, Request, Result
from nabla_core.text.template_check import (
    check_lm_template,
    check_reward_template,
    check_system_turn,
    check_tools,
)
from nabla_core.text.templates import render_for_lm, render_for_reward
from nabla_core.types import Prompt


class TextEngine(BatchEngine):
    """Serves `Render` and `Decode` with the models' tokenizers."""

    kinds: tuple[type[Request[Any]], ...] = (Render, Decode)
    # Served at once, not in full batches: a flow that renders is about to use the big engines,
    # and a flow that decodes is about to end and make room for another prompt.
    cheap = True

    def __init__(
        self,
        lm: LanguageModel,
        judge: RewardModel | LanguageModel | None,
        guide: RewardModel | LanguageModel | None,
        template_date: str = TEMPLATE_DATE,
        tools: ToolsFor = "shown",
    ) -> None:
        """None: no such model reads prompts. `tools`: whether judge and guide read the tools of
        prompts. Raises ModelError where a chat template cannot be used."""
        super().__init__(capacity=1024)
        self._lm, self._judge, self._guide = lm, judge, guide
        self._date = template_date
        self._tools = tools
        check_lm_template(lm.tokenizer, lm.source)
        for model in (judge, guide):
            if model is not None:
                check_reward_template(model.tokenizer, model.source)

    def check_system_turns(self) -> None:
        """Raises ModelError where a model's chat template refuses system turns."""
        for model in (self._lm, self._judge, self._guide):
            if model is not None:
                check_system_turn(model.tokenizer, model.source)

    def check_tools(self) -> None:
        """Raises ModelError where a model's chat template leaves out tools that it is to read."""
        told = (self._lm, self._judge, self._guide) if self._tools == "shown" else (self._lm,)
        for model in told:
            if model is not None:
                check_tools(model.tokenizer, model.source)

    def answer(self, requests: Sequence[Render | Decode]) -> Sequence[Result]:
        return [
            Reply(self._context(r.prompt) if isinstance(r, Render) else self._texts(r))
            for r in requests
        ]

    def _context(self, prompt: Prompt) -> Context:
        with _naming_template(prompt, self._lm):
            text, ids = render_for_lm(prompt, self._lm.tokenizer, self._date)
        if not ids:
            raise ContextError(f"prompt {prompt.id} is empty; the LM needs at least one token")
        if len(ids) >= self._lm.context:
            raise ContextError(
                f"prompt {prompt.id} is {len(ids)} tokens long; the LM's context is "
                f"{self._lm.context} and must hold a response too"
            )
        require_known(ids, self._lm.table.size(0), f"prompt {prompt.id}")
        judge = self._frame(prompt, self._judge)
        # One model in both roles reads the same ids.
        guide = judge if self._guide is self._judge else self._frame(prompt, self._guide)
        return Context(text, tuple(ids), judge, guide, prompt.id)

    def _frame(
        self, prompt: Prompt, model: RewardModel | LanguageModel | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if model is None:
            return (), ()
        with _naming_template(prompt, model):
            told = prompt if self._tools == "shown" else prompt.without_tools()
            before, after = render_for_reward(told, model.tokenizer, self._date)
        rows = model.table.size(0)
        require_known([*before, *after], rows, f"prompt {prompt.id}, as {model.source} reads it,")
        return tuple(before), tuple(after)

    def _texts(self, request: Decode) -> list[str]:
        decode = self._lm.tokenizer.decode
        return [decode(list(s), skip_special_tokens=not request.special) for s in request.sequences]


@contextmanager
def _naming_template(prompt: Prompt, model: RewardModel | LanguageModel) -> Iterator[None]:
    """Errors of a chat template, which is a program, as errors of the prompt."""
    try:
        yield
    except NablaError:
        raise
    except Exception as error:
        raise RenderError(
            f"prompt {prompt.id}: the chat template of {model.source} cannot render it: {error}"
        ) from error
