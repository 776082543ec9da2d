"""From the settings to the state that training starts with: models, examples, optimiser."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

import torch

from nabla_core.embedded.weights import model_location
from nabla_core.engines.loading import build_engines, device_of, reader_for
from nabla_core.errors import UNREADABLE, PromptError
from nabla_core.guide_training.examples import Example, GuideEncoder, Record
from nabla_core.guide_training.teacher import Teacher
from nabla_core.guide_training.trainees import Trainee, guide_encoder, open_trainee
from nabla_core.model_config import Runtime
from nabla_core.models.identity import identify
from nabla_core.models.loading import LanguageModel, load_language_model, load_reward_model
from nabla_core.models.pretrained import load_tokenizer
from nabla_core.models.readers import Reader
from nabla_core.models.vocab import fingerprint
from nabla_core.types import Identity
from pipeline.errors import InputError
from pipeline.inputs.prompts import content_key
from pipeline.inputs.prompts import read as read_prompts
from pipeline.train_guide.config import Data, TrainGuideConfig
from pipeline.train_guide.data import Mixture, mix
from pipeline.train_guide.lora import adapt
from pipeline.train_guide.state import TrainingState

T = TypeVar("T")


def setup(config: TrainGuideConfig, device: str = "auto") -> TrainingState:
    """Load models and data. Raises ModelError, VocabularyError, InputError."""
    lm, judge = _lm_and_judge(config, device_of(device))
    start = _start(config)
    trainee = open_trainee(
        config.kind,
        start.path,
        start.tokenizer,
        config.optimise,
        revision=start.revision,
        seed=config.seed,
        adapt=adapt(config.optimise, config.seed),
    )
    trainee.model.to(lm.device)
    encoder = guide_encoder(config.kind, trainee, start.tokenizer, lm, config.reward.min_coverage)
    mixture = _read(config.data, lm)
    train_records, held_out_records = _split(config, mixture.records)
    labelled, teacher = _label(config, train_records, lm, judge, mixture.left_out)
    floor = config.data.log_probability_floor
    train = list(encode(encoder, labelled, floor, mixture.left_out))
    held_out = list(encode(encoder, held_out_records, floor, mixture.left_out))
    if not train or not held_out:
        raise InputError(
            f"{len(train) + len(held_out)} responses with counterfactuals are too few: "
            f"{len(train)} to train on, {len(held_out)} held out; left out: "
            f"{dict(mixture.left_out)}"
        )
    # With a teacher every position has scores; what was really measured is in the records.
    scored = [r.places for r in train_records] if teacher else [e.positions for e in train]
    return TrainingState(
        config=config,
        lm=lm,
        judge=judge,
        trainee=trainee,
        tokenizer=start.tokenizer,
        optimizer=_optimizer(config, trainee),
        train=train,
        held_out=held_out,
        held_out_records=held_out_records,
        mixture=mixture,
        start=identify(start.path, start.revision),
        teacher=teacher,
        counterfactuals=sum(len(p.tokens) - 1 for positions in scored for p in positions),
        validation_overlap=_validation_overlap(config, train_records),
    )


def encode(
    encoder: GuideEncoder,
    records: Iterable[Record],
    log_probability_floor: float,
    left_out: Counter[str],
) -> Iterator[Example]:
    """The records as examples. Those that the guide cannot read and those without a position to
    learn from are counted in `left_out`. Raises InputError naming an invalid record."""
    for record in records:
        try:
            example = encoder.encode(record, min_log_probability=log_probability_floor)
        except UNREADABLE:
            left_out["responses that the guide cannot read"] += 1
            continue
        except PromptError as error:
            raise InputError(str(error)) from error
        if example.positions:
            yield example
        else:
            left_out["responses without a position to learn from"] += 1


def subsample(items: Sequence[T], size: int, seed: int) -> list[T]:
    """At most `size` items in their order, drawn from all of them: the first ones alone would be
    of the first source only."""
    if len(items) <= size:
        return list(items)
    return [items[n] for n in sorted(random.Random(seed).sample(range(len(items)), size))]


@dataclass(frozen=True)
class _Start:
    path: str
    revision: str | None
    tokenizer: Any


def _start(config: TrainGuideConfig) -> _Start:
    """The model that the guide starts from."""
    path, revision = {
        "judge": (model_location(config.reward.judge, "judge"), config.reward.judge_revision),
        "lm": (model_location(config.lm.path, "lm"), config.lm.revision),
    }.get(config.start.path, (os.path.expanduser(config.start.path), config.start.revision))
    return _Start(path, revision, load_tokenizer(path, revision))


def _lm_and_judge(config: TrainGuideConfig, device: torch.device) -> tuple[LanguageModel, Reader]:
    options: dict[str, Any] = {"device": device, "dtype": torch.float32}
    lm_path = model_location(config.lm.path, "lm")
    lm = load_language_model(lm_path, revision=config.lm.revision, **options)
    judge_path, revision = (
        model_location(config.reward.judge, "judge"),
        config.reward.judge_revision,
    )
    judge = load_reward_model(judge_path, revision=revision, **options)
    return lm, reader_for(judge, lm, config.reward.min_coverage)


def _optimizer(config: TrainGuideConfig, trainee: Trainee) -> torch.optim.Optimizer:
    trained = [p for p in trainee.model.parameters() if p.requires_grad]
    optimise = config.optimise
    return torch.optim.AdamW(trained, lr=optimise.learning_rate, weight_decay=optimise.weight_decay)


def _read(data: Data, lm: LanguageModel) -> Mixture:
    def encode_response(text: str) -> list[int]:
        ids: list[int] = lm.tokenizer.encode(text, add_special_tokens=False)
        # A trace stores the text of its first response without the stop token.
        return [*ids, lm.tokenizer.eos_token_id]

    return mix(data, lm=lm.identity, tokenizer=fingerprint(lm.tokenizer), encode=encode_response)


def _split(
    config: TrainGuideConfig, records: Iterable[Record]
) -> tuple[list[Record], list[Record]]:
    """Records to train on and held-out ones. All responses to a prompt are in the same part, and
    a prompt is in the same part in every training."""
    train: list[Record] = []
    held_out: list[Record] = []
    for record in records:
        digest = blake2b(record.prompt.id.encode(), digest_size=8).digest()
        position = int.from_bytes(digest, "big") / 2**64  # uniform in [0, 1)
        (held_out if position < config.data.held_out else train).append(record)
    return train, subsample(held_out, config.validation.held_out, config.seed)


def _label(
    config: TrainGuideConfig,
    records: list[Record],
    lm: LanguageModel,
    judge: Reader,
    left_out: Counter[str],
) -> tuple[list[Record], Identity | None]:
    """The records with the teacher's predictions at all positions, and the teacher's identity.
    Without a teacher they are returned as they are."""
    settings, coverage = config.teacher, config.reward.min_coverage
    if settings.path is None:
        return records, None
    teacher = Teacher.load(
        os.path.expanduser(settings.path), lm, coverage, revision=settings.revision
    )
    # The engines serve the LM's likeliest tokens. Their guide is not used: any reader will do.
    engines = build_engines(lm, judge, judge, Runtime(max_batch=config.validation.max_batch))
    size = config.optimise.micro_batch
    labelled = list(teacher.label(records, engines, settings.alternatives, size=size))
    if len(labelled) < len(records):
        left_out["responses that the teacher cannot label"] += len(records) - len(labelled)
    return labelled, teacher.identity


def _validation_overlap(config: TrainGuideConfig, records: Iterable[Record]) -> int:
    """How many validation prompts have the content of a prompt that is trained on."""
    trained_on = {content_key(record.prompt) for record in records}
    prompts = read_prompts(config.validation.prompts)
    return len([item for item in prompts if content_key(item.prompt) in trained_on])
