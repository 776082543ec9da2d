"""Train the models of the stories (converged LM, LM, judge) and write prompts for the jobs.

    python -m tests.bench.stories.train --out runs/stories [--seed 0]

The recipe is that of nabla_core.embedded.recipe.train: an LM learns right responses, then flawed
ones, so that it errs. The judge has three new layers on the first LM and learns how far responses
are right. A stage whose folder is complete is skipped. One CPU thread. Prints a table of the cards,
then one JSON object with the same figures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from nabla_core.embedded.task import Split
from tests.bench.stories import models, task
from tests.bench.stories.train_judge import train_judge
from tests.bench.stories.train_lm import Log, train_converged, train_flawed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stories.train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    started = time.monotonic()

    cards: dict[str, dict[str, Any]] = {}

    def stage(name: str, kind: Any, make: Callable[[Log], tuple[Any, dict[str, Any]]]) -> Any:
        def log(text: str) -> None:
            minutes = (time.monotonic() - started) / 60
            print(f"{minutes:6.1f} min  {name}: {text}", flush=True)

        path = options.out / name
        if not (path / "card.json").exists():
            model, card = make(log)
            model.save_pretrained(path)
            models.tokenizer().save_pretrained(path)
            (path / "card.json").write_text(json.dumps({"seed": options.seed, **card}) + "\n")
        cards[name] = json.loads((path / "card.json").read_text())
        return kind.from_pretrained(path)

    for split in ("train", "validation", "test"):
        write_prompts(options.out / f"{split}.jsonl", split, 8000 if split == "train" else 2000)
    converged = stage("converged", LlamaForCausalLM, lambda log: train_converged(options.seed, log))
    lm = stage("lm", LlamaForCausalLM, lambda log: train_flawed(converged, options.seed, log))
    stage(
        "judge",
        LlamaForSequenceClassification,
        lambda log: train_judge(converged, lm, options.seed, log),
    )
    for name, card in cards.items():
        print(f"{name:12}" + "".join(f"{key} {value:<12.4g}" for key, value in card.items()))
    print(json.dumps(cards))


def write_prompts(path: Path, split: Split, count: int) -> None:
    """Prompts as JSONL: id, prompt, answer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        {"id": p.id, "prompt": p.text, "answer": p.answer}
        for p in task.prompts(count, seed=0, split=split)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
