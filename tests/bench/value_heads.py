"""Accuracy and cost of decoding guided by value heads and heads, in one batch.

    python -m tests.bench.value_heads --guide NAME=FOLDER ... [--prompts 2000] [--tune 1000]
        [--betas 1 .5 .25 .125] [--temperatures 0 1] [--models FOLDER]

The embedded task: prompts of one length, so that all of them are decoded together in a plain loop
over transformers' cache, a second an arm. Tokens are those of `decoding.method: guided`
(tests/core/guides/test_value_head.py); draws at temperature 1 have the same law and other random
numbers. `--models` is a folder with `lm`, `judge` and `head` (default: the shipped ones). `full
head` is that head, a model of its own; the value heads belong to that LM. With `--tune`, the beta
of each arm is the best on so many validation prompts. FLOPs are those that the product books, the
judge's reading of the response left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from nabla_core import Prompt, Reward, Runtime, load_engines
from nabla_core.embedded import task
from nabla_core.embedded.weights import ROOT
from nabla_core.guides.head import HeadGuide
from nabla_core.guides.value_head import ValueHeadGuide
from nabla_core.models.loading import LanguageModel
from nabla_core.requests import Sweep
from nabla_core.text.templates import render_for_lm, render_for_reward
from tests.bench.arms import Interval, quiet

STEPS = 17  # a response of eight steps has 16 tokens, the stop token among them

Guide = HeadGuide | ValueHeadGuide


@dataclass
class _Reading:
    """A model that reads the sequences of a batch, token by token."""

    model: LanguageModel
    cache: DynamicCache

    def read(self, ids: Tensor) -> Tensor:
        """The last hidden states `[B, D]` behind `ids` `[B, S]`, which continue what was read."""
        found = self.model.body(input_ids=ids, past_key_values=self.cache, use_cache=True)
        hidden: Tensor = found.last_hidden_state[:, -1]
        return hidden


@torch.inference_mode()
def decode(
    lm: LanguageModel, guide: Guide | None, prompts: Sequence[Prompt], beta: float, warmth: float
) -> list[str]:
    """The response to each prompt, drawn from p exp(A / beta) at a temperature `warmth`."""
    torch.manual_seed(0)
    pending = torch.tensor([render_for_lm(p, lm.tokenizer)[1] for p in prompts])
    reading = _Reading(lm, DynamicCache())
    beside = _Reading(guide.head, DynamicCache()) if isinstance(guide, HeadGuide) else None
    if beside is not None:
        before = [render_for_reward(p, beside.model.tokenizer)[0] for p in prompts]
        assert before == pending.tolist(), "LM and head read the same ids of this task"
    tokens = []
    for _ in range(STEPS):
        hidden = reading.read(pending)
        law = lm.logits(hidden)
        if guide is not None:
            read = hidden if beside is None else beside.read(pending)
            law = law + guide.next_advantages(read) / beta
        pending = (
            torch.multinomial((law / warmth).softmax(-1), 1) if warmth else law.argmax(-1)[:, None]
        )
        tokens.append(pending)
    return [_text(lm, row) for row in torch.cat(tokens, 1).tolist()]


def _text(lm: LanguageModel, row: list[int]) -> str:
    end = next((n for n, token in enumerate(row) if token in lm.stop), len(row))
    text: str = lm.tokenizer.decode(row[:end], skip_special_tokens=True)
    return text


def flops(lm: LanguageModel, guide: Guide | None, prompt: int) -> float:
    """Of a response of 16 tokens, as the product books it."""
    new = 16
    reads = [lm.shape] + ([guide.head.shape] if isinstance(guide, HeadGuide) else [])
    found = sum(shape.forward(prompt - 1 + new) + shape.head(new) for shape in reads)
    return found + (guide.next_flops() * new if isinstance(guide, ValueHeadGuide) else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.value_heads")
    parser.add_argument("--guide", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--betas", type=float, nargs="+", default=[1.0, 0.5, 0.25, 0.125])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--models", type=Path, default=ROOT)
    options = parser.parse_args()
    quiet()
    named: dict[str, str] = dict(guide.split("=", 1) for guide in options.guide)
    guides = {"full head": str(options.models / "head"), **named}
    unseen = task.prompts(options.prompts, seed=0, split="test")
    validation = task.prompts(options.tune, seed=0, split="validation")

    def grades(prompts: Sequence[Prompt], texts: Sequence[str]) -> Any:
        marks = [task.grade(p.text, text) for p, text in zip(prompts, texts, strict=True)]
        return [float(m.answer) for m in marks], [float(m.trace) for m in marks]

    def show(name: str, guide: Guide | None, lm: LanguageModel, run: Callable[..., Any]) -> None:
        answer, trace = grades(unseen, run(unseen))
        length = len(render_for_lm(unseen[0], lm.tokenizer)[1])
        cost = flops(lm, guide, length) / 1e6
        print(f"{name:44}{Interval.of(answer)!s:>16}{Interval.of(trace)!s:>16}{cost:7.1f}")

    print(f"{'arm':44}{'accuracy':>16}{'every step':>16}{'MFLOP':>7}")
    for name, path in guides.items():
        reward = Reward(str(options.models / "judge"), guide=path)
        engines = load_engines(str(options.models / "lm"), reward, Runtime(device="cpu"))
        guide: Any = engines.serving(Sweep)._guide  # type: ignore[attr-defined]
        lm = guide.lm
        for warmth in options.temperatures:
            if name == "full head":
                show(f"no guide, temperature {warmth:g}", None, lm, _run(lm, None, 1.0, warmth))
            scores = {
                beta: sum(grades(validation, _run(lm, guide, beta, warmth)(validation))[0])
                for beta in options.betas
            }
            beta = max(scores, key=lambda b: scores[b])
            tuned = " ".join(f"{b:g}: {s / len(validation):.3f}" for b, s in scores.items())
            label = f"{name}, beta {beta:g}, temperature {warmth:g}"
            show(label, guide, lm, _run(lm, guide, beta, warmth))
            print(f"    validation: {tuned}", flush=True)


def _run(
    lm: LanguageModel, guide: Guide | None, beta: float, warmth: float
) -> Callable[[Sequence[Prompt]], list[str]]:
    return lambda prompts: decode(lm, guide, prompts, beta, warmth)


if __name__ == "__main__":
    main()
