"""The control of the guides: the LM itself, trained on the same counterfactuals.

    python -m tests.bench.tuned_lm --out DIR --config configs/train_head_embedded.yaml \
        optimise.learning_rate=3e-4 [--task digits] [key=value ...]

The target over the tokens tried at a position is p exp(score / temperature), where p is the LM
before training: the KL-regularised optimum. Without p the LM forgets what it knew wherever the
scores are flat. The loss is cross-entropy; all weights are trained. DIR/lm gets the checkpoint with
the best greedy accuracy on validation prompts: give it to tests.bench.guides as --lm. Prints one
row per checkpoint, then one JSON list with the same figures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from nabla_core import Runtime, drive, greedy, load_engines
from nabla_core.embedded.weights import model_location
from nabla_core.guide_training.examples import ScoredPosition
from nabla_core.guides.head import KIND_KEY
from nabla_core.model_config import LM
from pipeline.config import load
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.setup import setup
from pipeline.train_guide.state import TrainingState
from pipeline.train_guide.training import train_step
from tests.bench.arms import quiet
from tests.bench.tasks import TASKS, Task


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tuned_lm")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    quiet()
    task = TASKS[options.task]
    state = start(load(TrainGuideConfig, options.config, options.overrides))
    measured = []
    while state.step < state.config.optimise.steps:
        lost = train_step(state)
        if state.step % state.config.validation.every == 0:
            state.trainee.model.save_pretrained(options.out / "last")
            state.tokenizer.save_pretrained(options.out / "last")
            found = {
                "step": state.step,
                "loss": lost,
                "greedy": accuracy(options.out / "last", task, state),
            }
            print(
                f"step {found['step']:6}  loss {found['loss']:.4f}  greedy {found['greedy']:.4f}",
                flush=True,
            )
            measured.append(found)
            if found["greedy"] == max(m["greedy"] for m in measured):
                state.trainee.model.save_pretrained(options.out / "lm")
                state.tokenizer.save_pretrained(options.out / "lm")
    print(json.dumps(measured))


def start(config: TrainGuideConfig) -> TrainingState:
    """A state whose trainee is the LM, its scores such that a target at temperature 1 is the
    optimum at the configured one."""
    target = replace(config.target, temperature=1.0, across=0.0, scale=0.0, calibrate=False)
    optimise = replace(config.optimise, frozen_layers=0, freeze_embeddings=False)
    state = setup(
        replace(
            config,
            kind="head",
            start=replace(config.start, path="lm"),
            target=target,
            optimise=optimise,
        )
    )
    path = model_location(config.lm.path, "lm")
    lm = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    state.trainee.model.load_state_dict(lm.state_dict())
    delattr(state.trainee.model.config, KIND_KEY)
    state.train = [
        replace(e, positions=tuple(_optimum(p, config.target.temperature) for p in e.positions))
        for e in state.train
    ]
    return state


def _optimum(position: ScoredPosition, temperature: float) -> ScoredPosition:
    pairs = zip(position.log_probabilities, position.scores, strict=True)
    return replace(position, scores=tuple(log_p + s / temperature for log_p, s in pairs))


def accuracy(path: Path, task: Task, state: TrainingState) -> float:
    """Greedy, on 500 validation prompts."""
    engines = load_engines(LM(str(path)), state.config.reward, Runtime(max_batch=256))
    asked = task.prompts(500, "validation")
    traces = drive((greedy(p, max_tokens=task.max_tokens) for p in asked), engines, in_flight=768)
    return sum(task.grade(t.prompt_text, t.text).answer for t in traces) / len(asked)


if __name__ == "__main__":
    main()
