"""The inside of a training worker: data, steps, measurements. Knows nothing of Ray.

Every worker reads all records and takes every `world`-th response of a step's batch. Batches
are functions of (seed, step), losses are divided by the counts of the whole step and gradients
are summed over workers (not DDP's way: its hooks do not see a gradient that is differentiated
again), so neither the number of workers nor `micro_batch` nor an interruption changes what
is learned, but for rounding, which hundreds of steps can make a point of accuracy of.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, TypeVar

import torch
import torch.distributed

from nabla_core.embedded.weights import located
from nabla_core.engines.loading import build_engines, device_of, read_with
from nabla_core.errors import UNREADABLE, PromptError
from nabla_core.guide_training.examples import Batch, Example, GuideEncoder, Record
from nabla_core.guide_training.losses import loss
from nabla_core.guide_training.teacher import Teacher
from nabla_core.guide_training.trainees import Trainee, guide_encoder, open_trainee
from nabla_core.model_config import Runtime
from nabla_core.models.identity import identify_loaded
from nabla_core.models.loading import (
    LanguageModel,
    load_language_model,
    load_reward_model,
)
from nabla_core.models.pretrained import load_tokenizer
from nabla_core.models.readers import Reader
from nabla_core.models.vocab import fingerprint
from nabla_core.types import Identity
from pipeline.errors import InputError, RunError
from pipeline.inputs.prompts import content_key
from pipeline.inputs.prompts import read as read_prompts
from pipeline.train_guide import lora as adapters
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.data import Mixture, mix

T = TypeVar("T")


@dataclass
class TrainingState:
    """Everything a worker trains with. `apart` are the records held out, `explored` counts the
    counterfactuals trained on (of a teacher those behind what it says), `validation_overlap` the
    validation prompts that are among those trained on, `history` holds one dict a measurement."""

    config: TrainGuideConfig
    lm: LanguageModel
    judge: Reader
    trainee: Trainee
    tokenizer: Any
    optimizer: torch.optim.Optimizer
    train: list[Example]
    held_out: list[Example]
    apart: list[Record]
    mixture: Mixture
    teacher: Identity | None
    explored: int
    validation_overlap: int
    step: int = 0
    skipped: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Digests of the models and the data that make a guide what it is; formed once, for no
        step changes them."""
        model, config = self.trainee.model.config, self.config
        start = identify_loaded(model.name_or_path, config.start.revision, model)
        read = blake2b(digest_size=8)
        for record in self.mixture.records:
            read.update(repr((record.name, record.tokens, record.score, record.places)).encode())
        return {
            f"start.path {start.name}": start.revision,
            f"lm.path {config.lm.path}": self.lm.identity.revision,
            f"reward.judge {config.reward.judge}": self.judge.rm.identity.revision,
            f"teacher.path {config.teacher.path}": self.teacher.revision if self.teacher else "",
            "data": read.hexdigest(),
        }


def setup(config: TrainGuideConfig, device: str = "auto") -> TrainingState:
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
        lm=lm.identity,
        tokenizer=fingerprint(lm.tokenizer),
        encode=lambda text: [
            *lm.tokenizer.encode(text, add_special_tokens=False),
            lm.tokenizer.eos_token_id,
        ],
    )
    encoder = guide_encoder(config.kind, trainee, tokenizer, lm, config.reward.min_coverage)
    learned = [r for r in mixture.records if not _held_out(r, config.data.held_out)]
    kept_apart = [r for r in mixture.records if _held_out(r, config.data.held_out)]
    kept_apart = subsample(kept_apart, config.validation.held_out, config.seed)
    taught, teacher = _taught(config, learned, lm, judge)
    if len(taught) < len(learned):
        silent = "responses of which the teacher says nothing"
        mixture.left_out[silent] += len(learned) - len(taught)
    train, held_out = (
        list(examples(encoder, part, config.data.least, mixture.left_out))
        for part in (taught, kept_apart)
    )
    groups = [r.places for r in learned] if teacher else [e.positions for e in train]
    explored = sum(len(position.tokens) - 1 for group in groups for position in group)
    if not train or not held_out:
        raise InputError(
            f"{len(train) + len(held_out)} responses with counterfactuals are too few: "
            f"{len(train)} to train on, {len(held_out)} held out; left out: "
            f"{dict(mixture.left_out)}"
        )
    trained = [p for p in trainee.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=config.optimise.learning_rate, weight_decay=config.optimise.weight_decay
    )
    return TrainingState(
        config, lm, judge, trainee, tokenizer, optimizer, train, held_out, kept_apart, mixture,
        teacher, explored, _validation_overlap(config, learned),
    )  # fmt: skip


def examples(
    encoder: GuideEncoder, records: Iterable[Record], least: float, left_out: Counter[str]
) -> Iterator[Example]:
    """Records as a guide reads them; those it cannot read, and those without a position to learn
    from, are counted in `left_out`. Raises InputError naming a record that makes no sense."""
    for record in records:
        try:
            example = encoder.encode(record, min_log_probability=least)
        except UNREADABLE:
            left_out["responses that the guide cannot read"] += 1
            continue
        except PromptError as error:
            raise InputError(str(error)) from error
        if example.positions:
            yield example
        else:
            left_out["responses without a position to learn from"] += 1


def subsample(found: Sequence[T], most: int, seed: int) -> list[T]:
    """At most so many, drawn from all of them (sources come one after the other), in order."""
    if len(found) <= most:
        return list(found)
    return [found[n] for n in sorted(random.Random(seed).sample(range(len(found)), most))]


def train_step(state: TrainingState, rank: int = 0, world: int = 1) -> float:
    """One step; the loss. Raises RunError naming the responses where a gradient is not finite and
    `on_nonfinite` is `stop`."""
    state.step += 1
    optimise = state.config.optimise
    batch = _batch(state)
    counts = {"responses": len(batch), "positions": sum(len(e.positions) for e in batch)}
    state.optimizer.param_groups[0]["lr"] = optimise.rate(state.step)
    state.optimizer.zero_grad()
    device = state.trainee.model.device
    low = optimise.dtype == "bfloat16"
    total = torch.zeros(1, device=device)
    for part in _parts(batch[rank::world], optimise.micro_batch):
        tensors = Batch.of(part, device)
        with torch.autocast(device.type, torch.bfloat16) if low else nullcontext():
            values, rewards = state.trainee.predict(tensors)
        lost = loss(values, rewards, tensors, state.config.target.at(state.step), **counts)
        torch.autograd.backward(
            lost, inputs=[p for p in state.trainee.model.parameters() if p.requires_grad]
        )
        total += lost.detach()
    trained = state.optimizer.param_groups[0]["params"]
    _sum_over_workers(trained, total, world)
    norm = torch.nn.utils.clip_grad_norm_(trained, optimise.clip)
    if norm.isfinite():
        state.optimizer.step()
    else:
        _not_finite(state, batch)
    return total.item()


def _not_finite(state: TrainingState, batch: list[Example]) -> None:
    names = ", ".join(e.name for e in batch[:20]) + (", ..." if len(batch) > 20 else "")
    told = f"step {state.step}: the gradient is not finite; responses: {names}"
    if state.config.optimise.on_nonfinite == "stop":
        raise RunError(f"{told}. optimise.on_nonfinite=skip leaves such steps out")
    state.skipped.append(told)


def _taught(
    config: TrainGuideConfig, records: list[Record], lm: LanguageModel, judge: Reader
) -> tuple[list[Record], Identity | None]:
    """The records with the teacher's predictions at all positions, and which teacher that is;
    without one they are as they were."""
    asked, coverage = config.teacher, config.reward.min_coverage
    if asked.path is None:
        return records, None
    teacher = Teacher.load(asked.path, lm, coverage, revision=asked.revision)
    engines = build_engines(lm, judge, judge, Runtime(max_batch=config.validation.max_batch))
    size = config.optimise.micro_batch
    predicted = teacher.label(records, engines, asked.alternatives, size=size)
    return list(predicted), teacher.identity


def _validation_overlap(config: TrainGuideConfig, learned: Iterable[Record]) -> int:
    taught = {content_key(record.prompt) for record in learned}
    return sum(
        content_key(item.prompt) in taught for item in read_prompts(config.validation.prompts)
    )


def _start(config: TrainGuideConfig, lm: str, judge: str) -> tuple[str, str | None, Any]:
    path, revision = {
        "judge": (judge, config.reward.judge_revision),
        "lm": (lm, config.lm.revision),
    }.get(config.start.path, (config.start.path, config.start.revision))
    return path, revision, load_tokenizer(path, revision)


def _batch(state: TrainingState) -> list[Example]:
    """The examples of a step: a fresh order every epoch, so each is met once in each."""
    size, count = state.config.optimise.batch, len(state.train)
    wanted = range((state.step - 1) * size, state.step * size)
    orders: dict[int, list[int]] = {}
    for epoch in {n // count for n in wanted}:
        order = list(range(count))
        random.Random(f"{state.config.seed}/{epoch}").shuffle(order)
        orders[epoch] = order
    return [state.train[orders[n // count][n % count]] for n in wanted]


def _parts(examples: list[Example], size: int) -> Iterator[list[Example]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


def _sum_over_workers(parameters: list[Any], total: torch.Tensor, world: int) -> None:
    """Gradients and loss, each the sum of all workers' shares."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if world > 1:
        flat = torch.cat([*(p.grad.flatten() for p in parameters), total])
        torch.distributed.all_reduce(flat)
        *parts, summed = flat.split([*(p.numel() for p in parameters), 1])
        total.copy_(summed)
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad.copy_(part.view_as(parameter))


def _held_out(record: Record, share: float) -> bool:
    digest = blake2b(record.prompt.id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share
