"""From the settings to what training starts with: models, examples and their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from nabla_core.engines.loading import torch_dtype
from nabla_core.errors import UNREADABLE
from nabla_core.judge_training.examples import JudgeExample, StepLabel
from nabla_core.judge_training.scale import scale_factor
from nabla_core.models.identity import identify
from nabla_core.models.loading import LanguageModel, load_language_model
from nabla_core.text.fingerprint import fingerprint
from nabla_core.types import Identity
from pipeline.errors import InputError
from pipeline.grading.graders import grader
from pipeline.grading.steps import StepGrader, step_grader
from pipeline.inputs.prompts import content_key
from pipeline.inputs.prompts import read as read_prompts
from pipeline.train_judge import mixture
from pipeline.train_judge.answers import Answers, GradedAnswer, Tokens, read_answers
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.examination import Examiner, Sheet, given_answers, sheets
from pipeline.train_judge.judge import NewJudge, load_new_judge, save_deliverable
from pipeline.train_judge.models import judge_of, lm_of, sources
from pipeline.train_judge.trainers import label_trainer, pair_trainer
from pipeline.training.subsample import subsample


@dataclass(frozen=True)
class Part:
    """Answers that the judge can read, their examples, and which are hard negatives."""

    answers: list[GradedAnswer]
    examples: list[JudgeExample]
    hard: list[bool]


@dataclass(kw_only=True)
class Assembled:
    """What a training starts with. `extra` are the answers of `validation.runs`; `left_out` counts
    answers that are not trained on, by reason."""

    config: TrainJudgeConfig
    lm: LanguageModel
    judge: NewJudge
    answers: Answers
    extra: Answers
    train: Part
    held_out: Part
    left_out: Counter[str]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, Identity]:
        """All models that shape the judge or its choice, by role."""
        return {role: identify(*source) for role, source in sources(self.config).items()}

    def provenance(self) -> dict[str, str]:
        """Digests of what training may not continue without."""
        named = {f"{role} {one.name}": one.revision for role, one in self.models.items()}
        return {**named, "data": self.answers.digest, "validation.runs": self.extra.digest}

    def trainer(self, output: str, *, cpu: bool, callbacks: list[TrainerCallback]) -> Any:
        """The trainer; `output` is a folder for its files. Raises InputError."""
        config, train, held_out = self.config, self.train, self.held_out
        options: dict[str, Any] = {"output": output, "cpu": cpu, "callbacks": callbacks}
        if config.goal.loss == "bce":
            drawn = self._order([a.source for a in train.answers], train.hard)
            return label_trainer(
                config, self.judge, train.examples, held_out.examples, drawn, **options
            )
        found = mixture.pairs(train.answers, train.hard, config.data.pairs)
        measured = mixture.pairs(held_out.answers, held_out.hard, config.data.pairs)
        drawn = self._order(
            [train.answers[pair.wrong].source for pair in found],
            [train.hard[pair.wrong] for pair in found],
        )
        self.facts |= {"pairs": len(found), "held_out_pairs": len(measured)}
        return pair_trainer(
            config,
            self.judge,
            (train.examples, found),
            (held_out.examples, measured),
            drawn,
            **options,
        )

    def _order(self, of: Sequence[int], hard: Sequence[bool]) -> list[int]:
        """The rows of all steps."""
        config = self.config
        drawn = mixture.shares(of, hard, config.data.weights, config.data.hard)
        self.facts["hard_share"] = sum(share for (_, is_hard), share in drawn.items() if is_hard)
        steps = config.optimise.steps
        assert steps is not None, "the config has checked it"
        return mixture.draw(of, hard, drawn, steps * config.optimise.batch, config.seed)

    def examiner(self) -> Examiner:
        """What measures judges. Draws the LM's samples."""
        config = self.config
        names = [source["folder"] for source in self.answers.sources]
        measured = subsample(self.held_out.answers, config.validation.held_out, config.seed)
        return Examiner(
            config,
            self.lm,
            [item.prompt for item in read_prompts(config.validation.prompts)],
            grader(config.validation.verify),
            given_answers(measured, names, self.extra),
        )

    def calibration(self) -> list[Sheet]:
        """Responses that the scale is measured on: of whole prompts, as a search compares them."""
        config = self.config
        found = sheets(a for a in self.train.answers if a.kind != "candidate")
        kept: list[Sheet] = []
        for sheet in subsample(found, config.goal.calibration, config.seed):
            if sum(len(one.tokens) for one in kept) >= config.goal.calibration:
                break
            kept.append(sheet)
        return kept

    def describe(self, trainer: Any) -> dict[str, Any]:
        """The part of the judge's card on models, weights and data."""
        config, models = self.config, self.models
        lora = config.optimise.lora
        parts = {"trained_on": self.train, "held_out": self.held_out}
        return {
            "start": asdict(models["start"]),
            "lm": asdict(models["lm"]),
            "last_judge": asdict(models["judge"]) if "judge" in models else None,
            "guide": asdict(models["guide"]) if "guide" in models else None,
            "weights": {
                "trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
                "method": f"LoRA of rank {lora.rank}, merged" if lora.rank else "full",
            },
            "data": {
                "sources": self.answers.sources,
                "validation_sources": self.extra.sources,
                **{
                    name: {
                        "answers": len(part.answers),
                        "right": sum(a.right for a in part.answers),
                        "hard": sum(part.hard),
                    }
                    for name, part in parts.items()
                },
                **self.facts,
                "left_out": dict(self.left_out),
                "validation_overlap": len(self.answers.excluded),
            },
        }


def assemble(config: TrainJudgeConfig, device: torch.device) -> Assembled:
    """Load models and data. Raises ModelError, VocabularyError, ConfigError, InputError."""
    path, revision = lm_of(config)
    paths = [source for source, _ in sources(config).values()]
    dtype = torch_dtype(replace(config.runtime, device=str(device)), paths)
    lm = load_language_model(path, revision=revision, device=device, dtype=dtype)
    judge = load_new_judge(config, lm)
    extra = _read(config, lm, config.validation.runs, "validation.runs")
    # A judge that has seen its validation prompts would be chosen by its memory.
    asked = {content_key(item.prompt) for item in read_prompts(config.validation.prompts)}
    asked |= {answer.key for answer in extra.found}
    answers = _read(config, lm, config.data.runs, "data.runs", exclude=asked)
    left_out = Counter(answers.left_out)
    train, held_out = mixture.split(answers.found, config.data.held_out)
    hard = mixture.hard_negatives(answers.found, config.data.hard.quantile)
    is_hard = {id(a): flag for a, flag in zip(answers.found, hard, strict=True)}
    goal, verify = config.goal, config.validation.verify
    steps = step_grader(verify, goal.step_function) if goal.answers == "steps" else None

    def part(chosen: Iterable[GradedAnswer]) -> Part:
        found = Part([], [], [])
        for answer in chosen:
            try:
                example = _example(config, judge, lm, answer, steps)
            except UNREADABLE:
                left_out["answers that the judge cannot read"] += 1
                continue
            found.answers.append(answer)
            found.examples.append(example)
            found.hard.append(is_hard[id(answer)])
        if not found.answers:
            raise InputError(f"data.runs: the judge can read no answer; left out: {dict(left_out)}")
        return found

    return Assembled(
        config=config,
        lm=lm,
        judge=judge,
        answers=answers,
        extra=extra,
        train=part(train),
        held_out=part(held_out),
        left_out=left_out,
    )


def deliver(
    assembled: Assembled, examiner: Examiner, checkpoint: Path, target: Path
) -> tuple[float, dict[str, Any]]:
    """Write the judge of a checkpoint to `target`; its factor and its figures."""
    config = assembled.config

    def scale(path: Path) -> float:
        given = assembled.calibration()
        last = judge_of(config)
        assert last is not None, "the config has checked it"
        old = examiner.rewards(last, given)
        new = examiner.rewards((str(path), None), given)
        rows = [
            (a, b, sheet.key)
            for sheet, olds, news in zip(given, old, new, strict=True)
            for a, b in zip(olds, news, strict=True)
            if a is not None and b is not None
        ]
        reference, rewards, prompts = zip(*rows, strict=True) if rows else ((), (), ())
        return scale_factor(config.goal.scale, reference, rewards, prompts)

    factor = save_deliverable(config, checkpoint, target, scale)
    return factor, examiner.examine((str(target), None))


def _read(
    config: TrainJudgeConfig,
    lm: LanguageModel,
    runs: Sequence[str],
    key: str,
    exclude: Iterable[str] = (),
) -> Answers:
    def decode(tokens: Tokens) -> str:
        text: str = lm.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    data = config.data
    return read_answers(
        runs,
        key=key,
        fingerprint=fingerprint(lm.tokenizer),
        decode=decode,
        grade=grader(config.validation.verify),
        most_candidates=data.candidates if key == "data.runs" else 0,
        limit=data.limit if key == "data.runs" else None,
        allow_partial=data.allow_partial,
        exclude=set(exclude),
    )


def _example(
    config: TrainJudgeConfig,
    judge: NewJudge,
    lm: LanguageModel,
    answer: GradedAnswer,
    grade_steps: StepGrader | None,
) -> JudgeExample:
    right = answer.right
    steps: tuple[StepLabel, ...] = ()
    if grade_steps is not None:
        verdicts = grade_steps(answer.prompt, answer.text)
        right = verdicts.right
        steps = _positions(lm, answer, [(v.end, v.right) for v in verdicts.steps])
    return judge.encoder.encode(answer.prompt, answer.tokens, right, steps, config.goal.step_weight)


def _positions(
    lm: LanguageModel, answer: GradedAnswer, ends: Sequence[tuple[int, bool]]
) -> tuple[StepLabel, ...]:
    """The tokens at which steps end that end at these characters of the text."""
    found: list[StepLabel] = []
    position, length = -1, 0
    for end, right in ends:
        while length < end and position + 1 < len(answer.tokens):
            position += 1
            part = list(answer.tokens[: position + 1])
            length = len(lm.tokenizer.decode(part, skip_special_tokens=True))
        # A token may end two steps; the last one tells of both.
        if found and found[-1].position == position:
            found.pop()
        if position >= 0:
            found.append(StepLabel(position, right))
    return tuple(found)
