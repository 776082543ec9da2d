"""What is measured of a saved judge, with the engines that will use it: how well its rewards tell
right answers from wrong ones, on fresh answers, on given ones, and where it is searched against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any

import torch

from nabla_core.config import Decoding
from nabla_core.draws import DrawKey
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import AdvantageGuide, build_engines, load_guide, reader_for
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.engines.text import TextEngine
from nabla_core.errors import PromptError
from nabla_core.judge_training.evaluation import (
    JudgedAnswer,
    auc,
    auc_within_prompts,
    best_of_n_curve,
    calibration,
)
from nabla_core.methods.dispatch import flow
from nabla_core.models.loading import LanguageModel, load_reward_model
from nabla_core.models.readers import Reader
from nabla_core.requests import (
    Decode,
    Render,
    RequestGenerator,
    Rollout,
    Score,
    ask,
    ask_all,
    ask_readable,
)
from nabla_core.scheduler import drive
from nabla_core.types import Cost, Prompt
from pipeline.grading.graders import Grader
from pipeline.train_judge.answers import Answers, GradedAnswer
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.models import Source, guide_of

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
Tokens = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Sampled:
    """Responses to a prompt, the `number`-th."""

    number: int
    tokens: tuple[Tokens, ...]
    texts: tuple[str, ...]
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """Rewards of responses to a prompt; None for one that the judge cannot read."""

    number: int
    rewards: tuple[float | None, ...]
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Graded responses to one prompt, for every judge to score."""

    prompt: Prompt
    key: str
    tokens: tuple[Tokens, ...]
    right: tuple[bool, ...]


def sheets(answers: Iterable[GradedAnswer]) -> list[Sheet]:
    """The answers by prompt."""
    groups: dict[str, list[GradedAnswer]] = {}
    for answer in answers:
        groups.setdefault(answer.key, []).append(answer)
    return [
        Sheet(
            prompt=group[0].prompt,
            key=key,
            tokens=tuple(a.tokens for a in group),
            right=tuple(a.right for a in group),
        )
        for key, group in groups.items()
    ]


class Examiner:
    """Measures judges one after the other: all score the same responses.

    `given` are graded answers by the name under which they are reported. The LM's samples are drawn
    once. `flops`: of all that was drawn, read and searched so far. Raises ModelError.
    """

    def __init__(
        self,
        config: TrainJudgeConfig,
        lm: LanguageModel,
        prompts: Sequence[Prompt],
        grade: Grader,
        given: Mapping[str, Sequence[GradedAnswer]],
    ) -> None:
        self._config, self._lm, self._grade = config, lm, grade
        self._prompts = list(prompts)
        self._given = {name: sheets(answers) for name, answers in given.items()}
        self.flops = 0.0
        self._guide = self._load_guide() if config.validation.search else None
        self._fresh = self._samples() if config.validation.samples else []

    def examine(self, judge: Source) -> dict[str, Any]:
        """The figures of a judge, ready for JSON. See `report`."""
        engines, reader = self._engines(judge)
        fresh = self._judged(engines, self._fresh)
        found: dict[str, Any] = {
            "fresh": figures(fresh) | {"best_of": best_of(fresh), "prompts": len(self._fresh)},
            "given": {
                name: figures(self._judged(engines, given)) for name, given in self._given.items()
            },
            "searched": None,
        }
        if self._config.validation.search:
            guide = reader if self._guide is None else self._guide
            found["searched"] = self._search(self._build(reader, guide))
        return found

    def rewards(self, judge: Source, answers: Sequence[Sheet]) -> list[list[float | None]]:
        """The rewards of all responses, sheet by sheet."""
        engines, _ = self._engines(judge)
        return self._rewards(engines, answers)

    def _engines(self, judge: Source) -> tuple[Engines, Reader]:
        path, revision = judge
        model = load_reward_model(path, revision=revision, device=self._lm.device, dtype=self._type)
        reader = reader_for(model, self._lm, self._config.reward.min_coverage)
        return self._build(reader, reader), reader

    def _build(self, judge: Reader, guide: Reader | AdvantageGuide) -> Engines:
        config = self._config
        return build_engines(self._lm, judge, guide, config.runtime, config.reward.tools)

    @property
    def _type(self) -> torch.dtype:
        return self._lm.table.dtype

    def _load_guide(self) -> Reader | AdvantageGuide | None:
        source = guide_of(self._config)
        if source is None:
            return None
        coverage = self._config.reward.min_coverage
        return load_guide(*source, self._lm, coverage, self._config.runtime)

    def _samples(self) -> list[Sheet]:
        """The LM's samples, graded. Prompts without an expected answer, and those that the LM
        cannot read, are left out."""
        validation, runtime = self._config.validation, self._config.runtime
        engines = Engines(
            TextEngine(self._lm, self._lm, self._lm, runtime.template_date),
            RolloutEngine(self._lm, runtime.max_batch, runtime.max_batch_tokens),
        )
        flows = (self._draw(n, prompt) for n, prompt in enumerate(self._prompts))
        width = max(1, 2 * runtime.max_batch // validation.samples)
        found: list[_Sampled] = list(drive(flows, engines, in_flight=width, failed=_unreadable))
        made = []
        self.flops += sum(sampled.cost.flops for sampled in found)
        for sampled in sorted(found, key=lambda s: s.number):
            prompt = self._prompts[sampled.number]
            verdicts = {text: self._grade(prompt, text).correct for text in set(sampled.texts)}
            if None not in verdicts.values():
                made.append(
                    Sheet(
                        prompt=prompt,
                        key=prompt.id,
                        tokens=sampled.tokens,
                        right=tuple(bool(verdicts[text]) for text in sampled.texts),
                    )
                )
        return made

    def _draw(self, number: int, prompt: Prompt) -> RequestGenerator[_Sampled]:
        validation = self._config.validation
        context = yield from ask(Render(prompt))
        keys = [
            DrawKey(self._config.seed, prompt.id, prompt.sample, f"rollout {k}")
            for k in range(validation.samples)
        ]
        responses = yield from ask_all(
            [Rollout(context, (), validation.max_tokens, validation.sampling, k) for k in keys]
        )
        tokens = tuple(response.tokens for response in responses)
        texts = yield from ask(Decode(tokens))
        return _Sampled(number=number, tokens=tokens, texts=tuple(texts))

    def _judged(self, engines: Engines, given: Sequence[Sheet]) -> list[JudgedAnswer]:
        return [
            JudgedAnswer(sheet.key, reward, right)
            for sheet, rewards in zip(given, self._rewards(engines, given), strict=True)
            for reward, right in zip(rewards, sheet.right, strict=True)
            if reward is not None
        ]

    def _rewards(self, engines: Engines, given: Sequence[Sheet]) -> list[list[float | None]]:
        flows = (_score(n, sheet) for n, sheet in enumerate(given))
        rewards: list[list[float | None]] = [[None] * len(sheet.tokens) for sheet in given]
        width = 3 * self._config.runtime.max_batch
        scored: _Scored
        for scored in drive(flows, engines, in_flight=width, failed=_unreadable):
            rewards[scored.number] = list(scored.rewards)
            self.flops += scored.cost.flops
        return rewards

    def _search(self, engines: Engines) -> dict[str, Any]:
        """Search against the judge. A prompt that fails counts as wrong."""
        config = self._config
        engines.check(config.validation.nabla)
        engines.check_sampling(config.validation.nabla.rollout)
        decoding = Decoding("nabla", config.validation.max_tokens, nabla=config.validation.nabla)
        by_id = {(prompt.id, prompt.sample): prompt for prompt in self._prompts}
        flows = (flow(prompt, decoding, seed=config.seed) for prompt in self._prompts)
        width = 3 * config.runtime.max_batch
        judged, graded, failed = [], 0, 0

        def count(number: int, error: Exception) -> None:
            nonlocal failed
            _unreadable(number, error)
            failed += 1

        for trace in drive(flows, engines, in_flight=width, failed=count):
            self.flops += trace.cost.flops
            prompt = by_id[trace.prompt_id, trace.sample]
            right = self._grade(prompt, trace.text).correct
            graded += right is not None
            if right is not None and trace.reward is not None:
                judged.append(JudgedAnswer(prompt.id, trace.reward, right))
        return figures(judged) | {
            "accuracy": sum(a.right for a in judged) / (graded + failed) if graded else None,
            "reward": sum(a.reward for a in judged) / len(judged) if judged else None,
            "failed": failed,
        }


def best_of(judged: Sequence[JudgedAnswer]) -> dict[str, float]:
    """The best-of-N curve; its sizes are texts, as in JSON."""
    return {str(size): value for size, value in best_of_n_curve(judged, SIZES).items()}


def figures(judged: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """AUC and calibration of judged answers. Figures that cannot be computed are None."""
    found = calibration(judged)
    return {
        "answers": len(judged),
        "right": sum(a.right for a in judged),
        "auc": auc(judged),
        "auc_within_prompts": auc_within_prompts(judged),
        "brier": found.brier if found else None,
        "ece": found.ece if found else None,
        "bins": [asdict(b) for b in found.bins] if found else [],
    }


def given_answers(
    held_out: Sequence[GradedAnswer], names: Sequence[str], extra: Answers
) -> dict[str, list[GradedAnswer]]:
    """The answers that judges are measured on, by the name of their run folder. Candidates are left
    out: what a search rejects is no output of it."""
    found: dict[str, list[GradedAnswer]] = {}
    for answers, sources, part in (
        (held_out, names, "held out"),
        (extra.found, [source["folder"] for source in extra.sources], "validation"),
    ):
        for answer in answers:
            if answer.kind == "final":
                name = f"{PurePath(sources[answer.source]).name} ({part})"
                found.setdefault(name, []).append(answer)
    return found


def _score(number: int, sheet: Sheet) -> RequestGenerator[_Scored]:
    # Samples of a sure LM are often equal.
    different = list(dict.fromkeys(sheet.tokens))
    context = yield from ask(Render(sheet.prompt))
    judged = yield from ask_readable([Score(context, tokens) for tokens in different])
    rewards = {
        tokens: None if one is None else one.reward
        for tokens, one in zip(different, judged, strict=True)
    }
    return _Scored(number=number, rewards=tuple(rewards[tokens] for tokens in sheet.tokens))


def _unreadable(number: int, error: Exception) -> None:
    """A prompt that a model cannot read has no figures; other errors are raised."""
    if not isinstance(error, PromptError):
        raise error
