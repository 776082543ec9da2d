"""Responses with labels as a judge reads them, and batches of them as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nabla_core.errors import ContextError
from nabla_core.model_config import ToolsFor
from nabla_core.models.pooling import pool_index
from nabla_core.models.readers import Reader
from nabla_core.text.templates import render_for_reward
from nabla_core.text.thinking import ThinkBlock, before_response, think_block
from nabla_core.types import Prompt


@dataclass(frozen=True, slots=True)
class StepLabel:
    """A step of a response ends at the token `position` of the response; `right`: this step and all
    before it are right."""

    position: int
    right: bool


@dataclass(frozen=True, slots=True)
class JudgeExample:
    """A prompt with its response in the judge's ids. `positions` are indices in `ids` at which the
    reward is trained, the one where it is read last; `labels` (0 to 1) and `weights`, which sum to
    1, are parallel to them."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    labels: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class JudgeEncoder:
    """Turns responses in LM ids into examples of a judge. `reader` is that judge before training;
    the ids are those that engines will give it. `tools`: whether it reads the tools of prompts."""

    reader: Reader
    tools: ToolsFor = "shown"

    @cached_property
    def _think(self) -> ThinkBlock | None:
        return think_block(self.reader.rm.tokenizer)

    def encode(
        self,
        prompt: Prompt,
        tokens: tuple[int, ...],
        right: bool,
        steps: Sequence[StepLabel] = (),
        step_weight: float = 0.5,
    ) -> JudgeExample:
        """The response as an example. `right` is the label where the reward is read. Where there
        are `steps`, they share `step_weight` of the loss.

        Raises ContextError and EncodingError where the judge cannot read the response.
        """
        rm = self.reader.rm
        told = prompt if self.tools == "shown" else prompt.without_tools()
        plain, after = render_for_reward(told, rm.tokenizer)
        body = self.reader.vocabulary.translate(self.reader.body_tokens(tokens))
        before = before_response(self._think, rm.tokenizer, tuple(plain), body)
        ids = (*before, *body, *after)
        if len(ids) > rm.context:
            raise ContextError(
                f"prompt and response are {len(ids)} tokens to the judge, whose context is "
                f"{rm.context}"
            )
        last = pool_index(ids, rm.pad)
        # A step may end where the reward is read; there the label of the response counts.
        inner = [s for s in steps if s.position < len(body) and len(before) + s.position != last]
        share = step_weight / len(inner) if inner else 0.0
        return JudgeExample(
            ids=ids,
            positions=(*(len(before) + s.position for s in inner), last),
            labels=(*(float(s.right) for s in inner), float(right)),
            weights=(*(share for _ in inner), 1.0 - share * len(inner)),
        )


def batch_of(examples: Sequence[JudgeExample], pad: int) -> dict[str, Tensor]:
    """R examples as tensors: `input_ids` and `attention_mask` `[R, L]`, right-padded; for all N
    positions `row`, `index`, `label` and `weight`, `[N]`."""
    length = max(len(e.ids) for e in examples)
    rows = [[*e.ids, *[pad] * (length - len(e.ids))] for e in examples]
    mask = [[*[1] * len(e.ids), *[0] * (length - len(e.ids))] for e in examples]
    flat: list[tuple[int, int, float, float]] = [
        (row, *position)
        for row, e in enumerate(examples)
        for position in zip(e.positions, e.labels, e.weights, strict=True)
    ]
    row, index, label, weight = zip(*flat, strict=True)
    return {
        "input_ids": torch.tensor(rows),
        "attention_mask": torch.tensor(mask),
        "row": torch.tensor(row),
        "index": torch.tensor(index),
        "label": torch.tensor(label),
        "weight": torch.tensor(weight),
    }


def example_of(row: dict[str, Any]) -> JudgeExample:
    """An example from a row of a table with its fields as columns."""
    return JudgeExample(
        ids=tuple(row["ids"]),
        positions=tuple(row["positions"]),
        labels=tuple(row["labels"]),
        weights=tuple(row["weights"]),
    )
