"""From the settings to the state that training starts with: models, examples, optimiser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import torch

from nabla_core.engines.loading import build_engines, device_of, reader_for, torch_dtype
from nabla_core.errors import UNREADABLE, PromptError
from nabla_core.guide_training.cost import GuideCost
from nabla_core.guide_training.examples import Example, GuideEncoder, Record
from nabla_core.guide_training.head_model import start_from_lm
from nabla_core.guide_training.teacher import Teacher
from nabla_core.guide_training.trainees import Trainee, guide_encoder, open_trainee
from nabla_core.guide_training.value_head import open_value_head
from nabla_core.model_config import Runtime
from nabla_core.models.identity import identify, unchanged
from nabla_core.models.loading import LanguageModel, load_language_model, load_reward_model
from nabla_core.models.pretrained import load_tokenizer
from nabla_core.models.readers import Reader
from nabla_core.text.fingerprint import fingerprint
from nabla_core.types import Identity
from pipeline.errors import InputError
from pipeline.inputs.prompts import content_key
from pipeline.inputs.prompts import read as read_prompts
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.data import Mixture, mix
from pipeline.train_guide.lora import adapt
from pipeline.train_guide.models import judge_of, lm_of, start_of, teacher_of
from pipeline.train_guide.state import TrainingState
from pipeline.training.cost import Meter, total_of_data
from pipeline.training.subsample import subsample


def setup(config: TrainGuideConfig, device: str = "auto") -> TrainingState:
    """Load models and data. Raises ModelError, VocabularyError, InputError."""
    lm, judge = _lm_and_judge(config, device_of(device))
    trainee, tokenizer = _trainee(config, lm)
    reward = config.reward
    encoder = guide_encoder(config.kind, trainee, tokenizer, lm, reward.min_coverage, reward.tools)
    mixture = _read(config, lm)
    train_records, held_out_records = _split(config, mixture.records)
    meter = Meter(data=total_of_data(mixture.sources))
    labelled, teacher = _label(config, train_records, lm, judge, mixture.left_out, meter)
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
        tokenizer=tokenizer,
        optimizer=_optimizer(config, trainee),
        train=train,
        held_out=held_out,
        held_out_records=held_out_records,
        mixture=mixture,
        start=identify(*start_of(config)),
        teacher=teacher,
        counterfactuals=sum(len(p.tokens) - 1 for positions in scored for p in positions),
        validation_overlap=_validation_overlap(config, train_records),
        cost=GuideCost(trainee, lm),
        meter=meter,
    )


def _trainee(config: TrainGuideConfig, lm: LanguageModel) -> tuple[Trainee, Any]:
    """The guide to train, on the LM's device, and its tokenizer."""
    start, revision = start_of(config)
    if config.kind == "value_head":
        further = None if config.start.path == "lm" else start
        head = open_value_head(
            further,
            lm,
            width=config.value_head.width,
            output=config.start.output,
            revision=revision,
            seed=config.seed,
        )
        return head, lm.tokenizer
    with unchanged(start):
        tokenizer = load_tokenizer(start, revision)
        trainee = open_trainee(
            config.kind,
            start,
            tokenizer,
            config.optimise,
            revision=revision,
            seed=config.seed,
            adapt=adapt(config.optimise, config.seed),
        )
    if config.start.output == "lm":
        vocabulary = trainee.guide(lm, config.reward.min_coverage, Runtime()).vocabulary
        start_from_lm(trainee.output, lm, vocabulary, start)
    trainee.model.to(lm.device)
    return trainee, tokenizer


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


def _lm_and_judge(config: TrainGuideConfig, device: torch.device) -> tuple[LanguageModel, Reader]:
    # The type that they have in the search that the guide is for. What is trained is float32.
    paths = [source for source, _ in (lm_of(config), judge_of(config))]
    runtime = Runtime(device=str(device), dtype=config.optimise.dtype)
    options: dict[str, Any] = {"device": device, "dtype": torch_dtype(runtime, paths)}
    path, revision = lm_of(config)
    lm = load_language_model(path, revision=revision, **options)
    path, revision = judge_of(config)
    judge = load_reward_model(path, revision=revision, **options)
    return lm, reader_for(judge, lm, config.reward.min_coverage)


def _optimizer(config: TrainGuideConfig, trainee: Trainee) -> torch.optim.Optimizer:
    trained = [p for p in trainee.model.parameters() if p.requires_grad]
    optimise = config.optimise
    return torch.optim.AdamW(trained, lr=optimise.learning_rate, weight_decay=optimise.weight_decay)


def _read(config: TrainGuideConfig, lm: LanguageModel) -> Mixture:
    tokenizer = fingerprint(lm.tokenizer)
    return mix(config.data, target=config.target, lm=lm.identity, tokenizer=tokenizer)


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
    meter: Meter,
) -> tuple[list[Record], Identity | None]:
    """The records with the teacher's predictions at all positions, and the teacher's identity.
    Without a teacher they are returned as they are."""
    source = teacher_of(config)
    if source is None:
        return records, None
    path, revision = source
    coverage, tools = config.reward.min_coverage, config.reward.tools
    teacher = Teacher.load(path, lm, coverage, revision=revision, tools=tools)
    # The engines serve the LM's likeliest tokens. Their guide is not used: any reader will do.
    engines = build_engines(lm, judge, judge, Runtime(max_batch=config.validation.max_batch), tools)
    size = config.optimise.micro_batch
    labelled = list(teacher.label(records, engines, config.teacher.alternatives, size=size))
    if meter.data is not None:
        meter.data += teacher.flops
    if len(labelled) < len(records):
        left_out["responses that the teacher cannot label"] += len(records) - len(labelled)
    return labelled, teacher.identity


def _validation_overlap(config: TrainGuideConfig, records: Iterable[Record]) -> int:
    """How many validation prompts have the content of a prompt that is trained on."""
    trained_on = {content_key(record.prompt) for record in records}
    prompts = read_prompts(config.validation.prompts)
    return len([item for item in prompts if content_key(item.prompt) in trained_on])
