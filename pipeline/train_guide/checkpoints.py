"""Checkpoints of guide training: the guide as it would be delivered, and what training needs
to go on. Knows nothing of Ray.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nabla_core.guide_training.trainees import scaled
from pipeline.errors import RunError
from pipeline.store.files import Folder
from pipeline.train_guide.evaluation import calibration, measure
from pipeline.train_guide.folder import HISTORY, MODEL, STATE
from pipeline.train_guide.lora import adapted, merged
from pipeline.train_guide.training import Course


def keep(course: Course, lost: float, path: Path, before: dict[str, Any]) -> dict[str, Any]:
    """Measure the course and leave a checkpoint of it in the folder `path`; returns what was
    measured. The run folder's history grows with it; `before` is what was measured first."""
    with merged(course.trainee), scaled(course.trainee, factor := calibration(course)):
        metrics = {**measure(course), "loss": lost, "calibration": factor}
        course.trainee.model.save_pretrained(path / MODEL)
    course.tokenizer.save_pretrained(path / MODEL)
    course.history.append(metrics)
    state = {
        "step": course.step,
        "made_of": course.made_of,
        "learned": {name: p.detach() for name, p in _learned(course)},
        "optimizer": course.optimizer.state_dict(),
        "history": course.history,
        "skipped": course.skipped,
        "before": before,
    }
    torch.save(state, path / STATE)
    told = {
        "about": _about(course),
        "measured": course.history,
        "skipped": course.skipped,
        **before,
    }
    Folder(course.config.run_dir).write(HISTORY, json.dumps(told, indent=2).encode())
    return metrics


def restore(course: Course, path: Path) -> dict[str, Any]:
    """Set a fresh course to where a checkpoint left off; returns its `before`. Raises RunError
    where a model or the data that it was trained with have changed since."""
    state = torch.load(path / STATE, map_location=course.trainee.model.device, weights_only=True)
    now = course.made_of
    if changed := [what for what, one in state["made_of"].items() if one != now.get(what)]:
        raise RunError(
            f"{' and '.join(changed)}: not what it was at step {state['step']}, from which "
            "training would go on; another run_dir starts from the beginning"
        )
    with torch.no_grad():
        for name, parameter in _learned(course):
            parameter.copy_(state["learned"][name])
    course.optimizer.load_state_dict(state["optimizer"])
    course.step, course.history = state["step"], state["history"]
    course.skipped = state["skipped"]
    before: dict[str, Any] = state["before"]
    return before


def _learned(course: Course) -> list[tuple[str, Any]]:
    """The parameters that training changes; all others are those of `start.path`."""
    named = course.trainee.model.named_parameters()
    return [(name, parameter) for name, parameter in named if parameter.requires_grad]


def _about(course: Course) -> dict[str, Any]:
    """What the card says of models and data."""
    lora = course.config.optimise.lora
    return {
        "weights": {
            "learned": sum(p.numel() for _, p in _learned(course)),
            "method": f"LoRA of rank {lora.rank}, merged" if lora.rank else "full",
            "adapted_layers": len(adapted(course.trainee.model)),
        },
        # Embedded models are named so, not by where they lie on this machine.
        "lm": {**asdict(course.lm.identity), "name": course.config.lm.path},
        "judge": {**asdict(course.judge.rm.identity), "name": course.config.reward.judge},
        "teacher": asdict(course.teacher) if course.teacher else None,
        "data": {
            "sources": course.mixture.sources,
            "left_out": dict(course.mixture.left_out),
            "responses": len(course.train),
            "held_out": len(course.held_out),
            "counterfactuals": course.explored,
            "validation_prompts_trained_on": course.met,
        },
    }
