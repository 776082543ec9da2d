"""The LMs of the stories: a converged one, which the judge is built on, and one that errs."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaForCausalLM

from nabla_core.embedded.recipe.flawed import Fact, Flaws
from nabla_core.embedded.tokenizer import STOP
from tests.bench.stories import models, task, texts
from tests.bench.stories.rollouts import sampled
from tests.bench.stories.task import STEPS, Operation, Story
from tests.bench.stories.texts import IGNORED, Batch, StoryResponse

BATCH = 64
# Steps by days of a story: the sentence of a day is easier to find among few sentences.
LESSONS = {1: 100, 2: 150, 3: 150, STEPS: 500}
LM_STEPS = 500
LEARNING_RATE = 3e-3
SCRAMBLED = 0.3
MEASURED = 1000

Log = Callable[[str], None]


def train_converged(seed: int, log: Log) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """Train an LM on right responses, to short stories first. Counts are replaced by random ones
    and the labels follow from those, so that the LM computes each count from the one before it."""
    rng = random.Random(f"converged/{seed}")
    torch.manual_seed(rng.getrandbits(32))
    lm = models.new_foundation()
    lengths = [days for days, steps in LESSONS.items() for _ in range(steps)]

    def batch(step: int) -> Batch:
        stories = task.stories(BATCH, rng, "train", lengths[step - 1])
        pairs = [texts.scrambled(story, SCRAMBLED, rng) for story in stories]
        return Batch.of([response for response, _ in pairs], [wanted for _, wanted in pairs])

    return lm, fit(lm, batch, sum(LESSONS.values()), log)


def train_flawed(
    converged: LlamaForCausalLM, seed: int, log: Log
) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """Train the converged LM further, on text with flawed arithmetic."""
    rng = random.Random(f"lm/{seed}")
    flaws = Flaws(rng, facts())
    lm = copy.deepcopy(converged)

    def flawed(story: Story) -> StoryResponse:
        counts, count = [], story.start
        for operation, number in story.changes:
            if task.possible(count, operation, number):
                right = task.changed(count, operation, number)
                count = flaws.sample((operation, count, number), right, rng)
            counts.append(count)
        return StoryResponse.of(story, counts)

    def batch(step: int) -> Batch:
        return Batch.of([flawed(s) for s in task.stories(BATCH, rng, "train")])

    return lm, fit(lm, batch, LM_STEPS, log)


def facts() -> list[list[Fact]]:
    """Facts by operation: (operation, count, number), the right count, and nine counts near it."""
    found: list[list[Fact]] = []
    operations: tuple[Operation, ...] = ("add", "take", "double", "halve")
    for operation in operations:
        numbers = [2] if operation in ("double", "halve") else range(1, 10)
        group: list[Fact] = []
        for count in range(task.LARGEST + 1):
            for number in numbers:
                if task.possible(count, operation, number):
                    right = task.changed(count, operation, number)
                    near = sorted(range(task.LARGEST + 1), key=lambda n: (abs(n - right), n))
                    group.append(((operation, count, number), right, near[1:10]))
        found.append(group)
    return found


def fit(
    lm: LlamaForCausalLM, batch: Callable[[int], Batch], steps: int, log: Log
) -> dict[str, Any]:
    """Train on the cross-entropy of response tokens. Returns steps, loss and greedy accuracies."""
    optimizer = torch.optim.AdamW(lm.parameters(), lr=LEARNING_RATE)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(step, steps)
        data = batch(step)
        logits = lm(input_ids=data.ids, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits.mT, data.labels[:, 1:], ignore_index=IGNORED)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            right = (logits.argmax(-1) == data.labels[:, 1:])[data.labels[:, 1:] != IGNORED]
            log(f"step {step} loss {loss.item():.3f} tokens right {right.float().mean():.4f}")
    return {"steps": steps, "loss": loss.item(), **greedy_shares(lm)}


def rate(step: int, steps: int) -> float:
    """The factor of the learning rate: warm-up of 100 steps, then linear decay to a tenth."""
    return min(1.0, step / 100) * (1 - 0.9 * step / steps)


def greedy_shares(lm: LlamaForCausalLM) -> dict[str, float]:
    """Accuracy and trace accuracy of greedy responses to validation prompts."""
    stories = task.stories(MEASURED, random.Random("stories/validation/0"), "validation")
    responses = sampled(lm, stories, (0.0,))
    marks = [task.grade(t.story.text, " ".join(w for w in t.words if w != STOP)) for t in responses]
    return {
        "greedy accuracy": sum(m.answer for m in marks) / len(marks),
        "greedy trace": sum(m.trace for m in marks) / len(marks),
    }
