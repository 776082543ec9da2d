"""Checkpoints of guide training: the guide as it would be delivered, and what training needs to
continue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nabla_core.guide_training.trainees import scaled
from pipeline.errors import DamagedError, ResumeError
from pipeline.store.files import Folder
from pipeline.train_guide.evaluation import calibration, measure
from pipeline.train_guide.folder import STATE
from pipeline.train_guide.lora import adapted, merged
from pipeline.train_guide.state import TrainingState
from pipeline.training.cost import COST
from pipeline.training.folder import MODEL, TRAIN
from pipeline.training.history import write_history

# What a checkpoint's state holds.
_SAVED = {"step", "provenance", "trained", "optimizer", "history", "skipped", "baseline"}


def save_checkpoint(
    state: TrainingState, loss: float, path: Path, baseline: dict[str, Any]
) -> dict[str, Any]:
    """Measure the guide, write a checkpoint into the folder `path` and return the measurement.

    The measurement is also added to the history in the run folder. `baseline` is what was
    measured before the first step; it is stored along.
    """
    # Measured and saved as it would be delivered: with merged adapters, calibrated.
    with merged(state.trainee), scaled(state.trainee, factor := calibration(state)):
        metrics = {**measure(state), "loss": loss, "calibration": factor}
        metrics[COST] = state.meter.spent()
        state.trainee.model.save_pretrained(path / MODEL)
    state.tokenizer.save_pretrained(path / MODEL)
    state.history.append(metrics)
    # The trained parameters are saved in a file of their own: in the model the adapters are merged
    # and the output layer is calibrated, from which training could not continue.
    saved = {
        "step": state.step,
        "provenance": state.provenance,
        "trained": {name: p.detach() for name, p in _trained_parameters(state)},
        "optimizer": state.optimizer.state_dict(),
        "history": state.history,
        "skipped": state.skipped,
        "baseline": baseline,
    }
    torch.save(saved, path / STATE)
    # Besides the checkpoint: the driver shows the measurements while training goes on.
    publish_history(state, baseline)
    return metrics


def publish_history(state: TrainingState, baseline: Mapping[str, Any]) -> None:
    """Write the history into the run folder."""
    history = {
        "description": _describe(state),
        "measurements": state.history,
        "skipped": state.skipped,
        **baseline,
    }
    write_history(Folder(state.config.run_dir), history)


def load_checkpoint(state: TrainingState, path: Path) -> dict[str, Any]:
    """Set a fresh state to that of a checkpoint; returns the checkpoint's `baseline`.

    Raises ResumeError where a model or the data have changed since: adapters fit only the weights
    that they were trained on, and the batch of a step only the data it was drawn from. Raises
    DamagedError.
    """
    saved = _saved(path, state.trainee.model.device)
    now = state.provenance
    changed = [name for name, digest in saved["provenance"].items() if digest != now.get(name)]
    if changed:
        raise ResumeError(
            f"{' and '.join(changed)}: not what it was at step {saved['step']}, from which "
            "training would continue; another run_dir starts from the beginning"
        )
    with torch.no_grad():
        for name, parameter in _trained_parameters(state):
            parameter.copy_(saved["trained"][name])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step, state.history = saved["step"], saved["history"]
    state.skipped = saved["skipped"]
    state.meter.resume(state.history[-1] if state.history else {})
    baseline: dict[str, Any] = saved["baseline"]
    return baseline


def _saved(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        # `weights_only`: loading a checkpoint must not run code.
        saved = torch.load(path / STATE, map_location=device, weights_only=True)
        missing = _SAVED - saved.keys()
    # Any: torch passes on what pickle, zipfile and its own readers raise about damaged bytes.
    except Exception as error:
        raise DamagedError(_damaged(path, type(error).__name__)) from error
    if missing:
        raise DamagedError(_damaged(path, f"it lacks {', '.join(sorted(missing))}"))
    return dict(saved)


def _damaged(path: Path, reason: str) -> str:
    return (
        f"checkpoint {path.name} is damaged ({STATE}: {reason}): restore it, or delete the folder "
        f"{TRAIN} of the run to train from the first step"
    )


def _trained_parameters(state: TrainingState) -> list[tuple[str, Any]]:
    """The parameters that training changes; all others are those of `start.path`."""
    named = state.trainee.model.named_parameters()
    return [(name, parameter) for name, parameter in named if parameter.requires_grad]


def _describe(state: TrainingState) -> dict[str, Any]:
    """The part of the guide's card on weights, models and data."""
    lora = state.config.optimise.lora
    return {
        "start": asdict(state.start),
        "weights": {
            "trained": sum(p.numel() for _, p in _trained_parameters(state)),
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
            "counterfactuals": state.counterfactuals,
            "validation_overlap": state.validation_overlap,
        },
    }
