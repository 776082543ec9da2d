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
from pipeline.train_guide.training import TrainingState


def save_checkpoint(
    state: TrainingState, lost: float, path: Path, before: dict[str, Any]
) -> dict[str, Any]:
    """Measure the state and leave a checkpoint of it in the folder `path`; returns what was
    measured. The run folder's history grows with it; `before` is what was measured first."""
    with merged(state.trainee), scaled(state.trainee, factor := calibration(state)):
        metrics = {**measure(state), "loss": lost, "calibration": factor}
        state.trainee.model.save_pretrained(path / MODEL)
    state.tokenizer.save_pretrained(path / MODEL)
    state.history.append(metrics)
    saved = {
        "step": state.step,
        "provenance": state.provenance,
        "learned": {name: p.detach() for name, p in _learned(state)},
        "optimizer": state.optimizer.state_dict(),
        "history": state.history,
        "skipped": state.skipped,
        "before": before,
    }
    torch.save(saved, path / STATE)
    told = {
        "about": _about(state),
        "measured": state.history,
        "skipped": state.skipped,
        **before,
    }
    Folder(state.config.run_dir).write(HISTORY, json.dumps(told, indent=2).encode())
    return metrics


def load_checkpoint(state: TrainingState, path: Path) -> dict[str, Any]:
    """Set a fresh state to where a checkpoint left off; returns its `before`. Raises RunError
    where a model or the data that it was trained with have changed since."""
    saved = torch.load(path / STATE, map_location=state.trainee.model.device, weights_only=True)
    now = state.provenance
    if changed := [what for what, one in saved["provenance"].items() if one != now.get(what)]:
        raise RunError(
            f"{' and '.join(changed)}: not what it was at step {saved['step']}, from which "
            "training would go on; another run_dir starts from the beginning"
        )
    with torch.no_grad():
        for name, parameter in _learned(state):
            parameter.copy_(saved["learned"][name])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step, state.history = saved["step"], saved["history"]
    state.skipped = saved["skipped"]
    before: dict[str, Any] = saved["before"]
    return before


def _learned(state: TrainingState) -> list[tuple[str, Any]]:
    """The parameters that training changes; all others are those of `start.path`."""
    named = state.trainee.model.named_parameters()
    return [(name, parameter) for name, parameter in named if parameter.requires_grad]


def _about(state: TrainingState) -> dict[str, Any]:
    """What the card says of models and data."""
    lora = state.config.optimise.lora
    return {
        "weights": {
            "learned": sum(p.numel() for _, p in _learned(state)),
            "method": f"LoRA of rank {lora.rank}, merged" if lora.rank else "full",
            "adapted_layers": len(adapted(state.trainee.model)),
        },
        "lm": asdict(state.lm.identity),
        "judge": asdict(state.judge.rm.identity),
        "teacher": asdict(state.teacher) if state.teacher else None,
        "data": {
            "sources": state.mixture.sources,
            "left_out": dict(state.mixture.left_out),
            "responses": len(state.train),
            "held_out": len(state.held_out),
            "counterfactuals": state.explored,
            "validation_prompts_trained_on": state.validation_overlap,
        },
    }
