"""Counts the FLOPs of every pass of a model that transformers' Trainer trains."""

from __future__ import annotations

from typing import Any

import torch

from nabla_core.models.training_flops import TrainedShape
from pipeline.training.cost import Meter


def count_passes(trainer: Any, meter: Meter, *, recomputes: bool) -> None:
    """Let `meter` count the passes of a trainer's model: those of steps, and those of evaluations.

    DPO's reference model counts too. `recomputes`: layers are run again for the backward pass
    (gradient checkpointing). Call it before the model is wrapped for several workers.
    """
    model = _plain(trainer.model)
    _count(model, model, meter, recomputes=recomputes)
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        _count(_plain(reference), model, meter, recomputes=False)


def _count(model: Any, trained: Any, meter: Meter, *, recomputes: bool) -> None:
    """`trained` is in training mode in steps, and in evaluations it is not."""
    body = model.base_model
    head = model.get_output_embeddings() or model.score
    # Before it is sharded: then a layer's weights are a part of them.
    shape = TrainedShape.of(body, model.config, head)

    def note(_: Any, args: Any, inputs: dict[str, Any]) -> None:
        in_step = trained.training
        for fed in _lengths(args, inputs):
            # Losses need outputs at all positions: transformers forms those of a classifier too.
            flops = shape.forward(fed, fed)
            if in_step and torch.is_grad_enabled() and shape.trained:
                flops += shape.backward(fed, fed)
                flops += shape.shape.forward(fed) if recomputes else 0.0
            if in_step:
                meter.steps += flops
            else:
                meter.measurements += flops

    body.register_forward_pre_hook(note, with_kwargs=True)


def _plain(model: Any) -> Any:
    """The model of transformers in one with adapters."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def _lengths(args: Any, inputs: dict[str, Any]) -> list[int]:
    """The tokens of each row, without padding."""
    mask = inputs.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.dim() == 2:
        return [int(n) for n in mask.sum(1).tolist()]
    given = [inputs.get("input_ids"), inputs.get("inputs_embeds"), *args]
    ids = next(one for one in given if isinstance(one, torch.Tensor))
    return [ids.shape[1]] * ids.shape[0]
