"""Rewards and gradients in bfloat16: how far they are from float32, alone and in a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from nabla_core.engines.loading import reader_for
from nabla_core.models.loading import load_language_model, load_reward_model
from nabla_core.models.readers import Reader, RMRead, Task
from nabla_core.requests import Context

CPU: dict[str, Any] = {"revision": None, "device": torch.device("cpu")}
# Of rewards, those of the embedded judge having a spread of about 3: between batches, and from
# float32. Of the norm of a gradient, from float32.
BATCH = 0.3
EXACT = 0.6
GRADIENT = 0.2


def reader(dtype: torch.dtype) -> Reader:
    lm = load_language_model(str(folder("lm")), dtype=dtype, **CPU)
    return reader_for(load_reward_model(str(folder("judge")), dtype=dtype, **CPU), lm, 1.0)


def read(of: Reader, responses: list[tuple[int, ...]], size: int, gradient: bool) -> list[RMRead]:
    """The responses of as many prompts, read in batches of `size`."""
    context = Context("", (), ((), ()), ((), ()))
    asked = task.prompts(len(responses), seed=0, split="validation")
    frames = [(tuple(of.rm.tokenizer.encode(p.text)), ()) for p in asked]
    found: list[RMRead] = []
    for i in range(0, len(responses), size):
        tasks = [Task(context, tokens) for tokens in responses[i : i + size]]
        frame = frames[i : i + size]
        found += of.read(tasks, frame, gradient=gradient, return_cache=False)
    return found


@pytest.fixture(scope="module")
def low() -> Reader:
    return reader(torch.bfloat16)


@pytest.fixture(scope="module")
def pairs(low: Reader) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Right answers of different lengths and the same with another digit in them: proposals."""
    found = []
    encode = low.rm.tokenizer.encode
    for i, prompt in enumerate(task.prompts(16, seed=0, split="validation")):
        right = task.solve(prompt.text)[: 15 - 2 * (i % 4)]
        digit = right[2 * (i % 3)]
        wrong = right.replace(digit, str((int(digit) + 1 + i % 8) % 10), 1)
        found.append((tuple(encode(right)), tuple(encode(wrong))))
    return found


def rewards(of: Reader, pairs: Any, size: int) -> Tensor:
    """`[pairs, 2]`: of each response and its revision."""
    both = [[r.reward for r in read(of, [p[k] for p in pairs], size, False)] for k in (0, 1)]
    return torch.tensor(both, dtype=torch.float64).T


def test_a_reward_is_not_rounded_to_bfloat16(low: Reader, pairs: Any):
    found = rewards(low, pairs, 8).flatten()
    rounded = found.to(torch.bfloat16).double()
    assert (found != rounded).double().mean() > 0.9


def test_acceptance_in_bfloat16_is_the_same_alone_and_in_a_batch(low: Reader, pairs: Any):
    exact = rewards(reader(torch.float32), pairs, 8)
    alone, batch = rewards(low, pairs, 1), rewards(low, pairs, 8)
    assert (alone - batch).abs().max() < BATCH
    assert (batch - exact).abs().max() < EXACT
    gains = [(x[:, 1] - x[:, 0]) for x in (exact, alone, batch)]
    # A gain below the noise of the body's rounding is a matter of luck in any batch.
    clear = gains[0].abs() > EXACT
    assert clear.sum() >= 12
    accepted = [(gain > 0)[clear].tolist() for gain in gains]
    assert accepted[0] == accepted[1] == accepted[2]


def test_gradients_in_bfloat16_are_those_of_float32_within_a_tolerance(low: Reader, pairs: Any):
    responses = [before for before, _ in pairs]
    exact = read(reader(torch.float32), responses, 8, True)
    for size in (1, 8):
        found = read(low, responses, size, True)
        differences = [difference(a, b) for a, b in zip(exact, found, strict=True)]
        error = torch.tensor(differences).norm() / torch.cat(norms(exact)).norm()
        assert error < GRADIENT


def norms(reads: list[RMRead]) -> list[Tensor]:
    return [r.input_gradient.norm()[None] for r in reads if r.input_gradient is not None]


def difference(a: RMRead, b: RMRead) -> float:
    assert a.input_gradient is not None
    assert b.input_gradient is not None
    return float((a.input_gradient - b.input_gradient).norm())
