"""One optimiser step of guide training, the same for any number of workers.

The batch of a step is a function of (seed, step). Every worker holds all examples and processes
every `world`-th response of the batch. Losses are divided by the counts of the whole step, and
gradients are summed over the workers. So neither the number of workers nor `micro_batch` nor an
interruption changes what is learned, up to rounding (which can move accuracy by a point after
hundreds of steps).

Gradients are summed here and not by DistributedDataParallel: its hooks do not see a gradient
that is differentiated again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed

from nabla_core.guide_training.examples import Batch, Example
from nabla_core.guide_training.losses import loss
from pipeline.errors import RunError
from pipeline.train_guide.state import TrainingState


def train_step(state: TrainingState, rank: int = 0, world: int = 1) -> float:
    """Take one step and return its loss.

    Raises RunError naming the responses where the gradient is not finite and `on_nonfinite` is
    `stop`.
    """
    state.step += 1
    optimise = state.config.optimise
    examples = step_examples(state)
    counts = {"responses": len(examples), "positions": sum(len(e.positions) for e in examples)}
    # A function of the step alone, so that a resumed training continues the schedule.
    state.optimizer.param_groups[0]["lr"] = optimise.rate(state.step)
    state.optimizer.zero_grad()
    trained = state.optimizer.param_groups[0]["params"]
    total = torch.zeros(1, device=state.trainee.model.device)
    # Every `world`-th example: the shares of the workers differ by one response at most.
    for part in _micro_batches(examples[rank::world], optimise.micro_batch):
        total += _backward(state, part, counts)
    _sum_over_workers(trained, total, world)
    # Counted for the whole step, so every worker has the same sum.
    unread = max(0, min(len(examples), len(state.train) - (state.step - 1) * optimise.batch))
    state.meter.steps += state.cost.step(examples, unread)
    norm = torch.nn.utils.clip_grad_norm_(trained, optimise.clip)
    if norm.isfinite():
        state.optimizer.step()
    else:
        _not_finite(state, examples)
    return total.item()


def _backward(
    state: TrainingState, examples: list[Example], counts: dict[str, int]
) -> torch.Tensor:
    """Add a micro-batch to the gradients of the weights; returns its share of the loss."""
    device = state.trainee.model.device
    batch = Batch.of(examples, device)
    bfloat16 = state.config.optimise.dtype == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext():
        predictions, rewards = state.trainee.predict(batch)
    target = state.config.target.at(state.step)
    part = loss(predictions, rewards, batch, target, **counts)
    # Only these inputs: the embeddings of the double backward are leaves too, and their gradient
    # would be computed and kept for nothing.
    inputs = [p for p in state.trainee.model.parameters() if p.requires_grad]
    torch.autograd.backward(part, inputs=inputs)
    return part.detach()


def _not_finite(state: TrainingState, examples: list[Example]) -> None:
    names = ", ".join(e.name for e in examples[:20]) + (", ..." if len(examples) > 20 else "")
    message = f"step {state.step}: the gradient is not finite; responses: {names}"
    if state.config.optimise.on_nonfinite == "stop":
        raise RunError(f"{message}. optimise.on_nonfinite=skip leaves such steps out")
    state.skipped.append(message)


def step_examples(state: TrainingState) -> list[Example]:
    """The examples of a step. Each epoch has an order of its own and contains every example once;
    a batch may extend over two epochs."""
    size, count = state.config.optimise.batch, len(state.train)
    numbers = range((state.step - 1) * size, state.step * size)
    orders: dict[int, list[int]] = {}
    for epoch in {n // count for n in numbers}:
        order = list(range(count))
        random.Random(f"{state.config.seed}/{epoch}").shuffle(order)
        orders[epoch] = order
    return [state.train[orders[n // count][n % count]] for n in numbers]


def _micro_batches(examples: list[Example], size: int) -> Iterator[list[Example]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


def _sum_over_workers(parameters: list[Any], total: torch.Tensor, world: int) -> None:
    """Replace gradients and loss by their sums over all workers."""
    for parameter in parameters:
        if parameter.grad is None:  # every worker must contribute the same number of elements
            parameter.grad = torch.zeros_like(parameter)
    if world > 1:
        # One message for all parameters: the latency of hundreds of small ones would add up.
        flat = torch.cat([*(p.grad.flatten() for p in parameters), total])
        torch.distributed.all_reduce(flat)
        *parts, summed = flat.split([*(p.numel() for p in parameters), 1])
        total.copy_(summed)
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad.copy_(part.view_as(parameter))
