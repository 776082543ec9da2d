"""The inside of a training worker: data, steps, measurements. Knows nothing of Ray.

Every worker reads all records and takes every `world`-th response of a step's batch. Batches
are functions of (seed, step), losses are divided by the counts of the whole step and gradients
are summed over workers (not DDP's way: its hooks do not see a gradient that is differentiated
again), so neither the number of workers nor `micro_batch` nor an interruption changes what
is learned.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
import torch.distributed
from transformers import AutoTokenizer

from nabla_core.embedded.weights import located
from nabla_core.engines.guide import Reader
from nabla_core.engines.loading import build_engines, device_of, read_with
from nabla_core.errors import ModelError, PromptError
from nabla_core.guides.examples import Batch, Example, Record
from nabla_core.guides.targets import loss
from nabla_core.guides.teacher import Teacher
from nabla_core.guides.trainees import Trainee, lens, open_trainee
from nabla_core.model_config import Engine
from nabla_core.models import LanguageModel, load_language_model, load_reward_model
from nabla_core.vocab import fingerprint
from pipeline import adapters
from pipeline.counterfactual_reader import Mixture, mix
from pipeline.errors import InputError, RunError
from pipeline.guide_config import TrainGuideConfig


@dataclass
class Course:
    """Everything a worker trains with. `history` holds one dict a measurement."""

    config: TrainGuideConfig
    lm: LanguageModel
    judge: Reader
    trainee: Trainee
    tokenizer: Any
    optimizer: torch.optim.Optimizer
    train: list[Example]
    held_out: list[Example]
    mixture: Mixture
    step: int = 0
    skipped: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


def begin(config: TrainGuideConfig, device: str = "auto") -> Course:
    """Load models and data. Raises ModelError, VocabularyError, InputError."""
    where = device_of(device)
    lm_path = located(config.lm.path, "lm")
    judge_path = located(config.reward.judge, "judge")
    options: dict[str, Any] = {"device": where, "dtype": torch.float32}
    lm = load_language_model(lm_path, revision=config.lm.revision, **options)
    judge_model = load_reward_model(judge_path, revision=config.reward.judge_revision, **options)
    judge = read_with(judge_model, lm, config.reward.min_coverage)
    start, revision, tokenizer = _start(config, lm_path, judge_path)
    trainee = open_trainee(
        config.kind,
        start,
        tokenizer,
        config.optimise,
        revision=revision,
        seed=config.seed,
        adapt=adapters.adapt(config.optimise, config.seed),
    )
    trainee.model.to(where)
    mixture = mix(
        config.data,
        lm_revision=lm.identity.revision,
        tokenizer=fingerprint(lm.tokenizer),
        encode=lambda text: [*lm.tokenizer.encode(text), lm.tokenizer.eos_token_id],
    )
    eye = lens(config.kind, trainee, tokenizer, lm, config.reward.min_coverage)
    learned = [r for r in mixture.records if not _held_out(r, config.data.held_out)]
    kept_apart = [r for r in mixture.records if _held_out(r, config.data.held_out)]
    try:
        if config.teacher.path is not None:
            learned = _taught(config, learned, lm, judge)
        train, held_out = (
            [eye.example(r, least=config.data.least) for r in part]
            for part in (learned, kept_apart)
        )
    except PromptError as error:
        raise InputError(str(error)) from error
    count = len(train) + len(held_out)
    train, held_out = ([e for e in part if e.places] for part in (train, held_out))
    examples = len(train) + len(held_out)
    mixture.left_out["responses without a position to learn from"] += count - examples
    if not train or not held_out:
        raise InputError(
            f"{examples} responses with counterfactuals are too few: {len(train)} to train "
            f"on, {len(held_out)} held out"
        )
    trained = [p for p in trainee.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=config.optimise.learning_rate, weight_decay=config.optimise.weight_decay
    )
    held_out = held_out[: config.validation.held_out]
    return Course(config, lm, judge, trainee, tokenizer, optimizer, train, held_out, mixture)


def advance(course: Course, rank: int = 0, world: int = 1) -> float:
    """One step; the loss of this worker's share. Raises RunError naming the responses where a
    gradient is not finite and `on_nonfinite` is `stop`."""
    course.step += 1
    optimise = course.config.optimise
    batch = _batch(course)
    counts = {"responses": len(batch), "positions": sum(len(e.places) for e in batch)}
    course.optimizer.param_groups[0]["lr"] = optimise.rate(course.step)
    course.optimizer.zero_grad()
    device = course.trainee.model.device
    low = optimise.dtype == "bfloat16"
    total = 0.0
    for part in _parts(batch[rank::world], optimise.micro_batch):
        tensors = Batch.of(part, device)
        with torch.autocast(device.type, torch.bfloat16) if low else nullcontext():
            values, rewards = course.trainee.worth(tensors)
        lost = loss(values, rewards, tensors, course.config.target.at(course.step), **counts)
        torch.autograd.backward(
            lost, inputs=[p for p in course.trainee.model.parameters() if p.requires_grad]
        )
        total += lost.item()
    trained = course.optimizer.param_groups[0]["params"]
    _sum_gradients(trained, world)
    norm = torch.nn.utils.clip_grad_norm_(trained, optimise.clip)
    if norm.isfinite():
        course.optimizer.step()
    else:
        _not_finite(course, batch)
    return total


def _not_finite(course: Course, batch: list[Example]) -> None:
    names = ", ".join(e.name for e in batch[:20]) + (", ..." if len(batch) > 20 else "")
    told = f"step {course.step}: the gradient is not finite; responses: {names}"
    if course.config.optimise.on_nonfinite == "stop":
        raise RunError(f"{told}. optimise.on_nonfinite=skip leaves such steps out")
    course.skipped.append(told)


def _taught(
    config: TrainGuideConfig, records: list[Record], lm: LanguageModel, judge: Reader
) -> list[Record]:
    """The records with the teacher's predictions at all positions."""
    asked, coverage = config.teacher, config.reward.min_coverage
    assert asked.path is not None
    teacher = Teacher.load(asked.path, lm, coverage, revision=asked.revision)
    engines = build_engines(lm, judge, judge, Engine(max_batch=config.validation.max_batch))
    return list(teacher.predicted(records, engines, asked.alternatives))


def _start(config: TrainGuideConfig, lm: str, judge: str) -> tuple[str, str | None, Any]:
    path, revision = {
        "judge": (judge, config.reward.judge_revision),
        "lm": (lm, config.lm.revision),
    }.get(config.start.path, (config.start.path, config.start.revision))
    try:
        return path, revision, AutoTokenizer.from_pretrained(path, revision=revision)
    except (OSError, ValueError) as error:
        raise ModelError(f"start.path {path}: cannot load its tokenizer: {error}") from error


def _batch(course: Course) -> list[Example]:
    """The examples of a step: a fresh order every epoch, so each is met once in each."""
    size, count = course.config.optimise.batch, len(course.train)
    wanted = range((course.step - 1) * size, course.step * size)
    orders: dict[int, list[int]] = {}
    for epoch in {n // count for n in wanted}:
        order = list(range(count))
        random.Random(f"{course.config.seed}/{epoch}").shuffle(order)
        orders[epoch] = order
    return [course.train[orders[n // count][n % count]] for n in wanted]


def _parts(examples: list[Example], size: int) -> Iterator[list[Example]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


def _sum_gradients(parameters: list[Any], world: int) -> None:
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if world > 1:
        flat = torch.cat([p.grad.flatten() for p in parameters])
        torch.distributed.all_reduce(flat)
        parts = flat.split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad.copy_(part.view_as(parameter))


def _held_out(record: Record, share: float) -> bool:
    digest = blake2b(record.prompt.id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share
