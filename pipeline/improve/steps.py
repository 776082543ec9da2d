"""The steps of a round, as settings of the jobs that run them.

    run_dir/round-N/traces           step search: `decoding` with the models in use, on new prompts
    run_dir/round-N/samples          step samples: plain samples of the same prompts
    run_dir/round-N/greedy           greedy answers to the same prompts, where the yield needs them
    run_dir/round-N/student          step distill: an LM, trained on traces and samples
    run_dir/round-N/answers-T        step judge: samples of the LM in use at temperature T
    run_dir/round-N/answers-decoded  the same LM under `decoding` with the last judge and guide
    run_dir/round-N/judge            a judge, trained on them
    run_dir/round-N/counterfactuals  step counterfactuals: alternatives at positions of responses to
                                     the same prompts; with a trained guide where it predicts an
                                     improvement or is not certain
    run_dir/round-N/guide            step guide: a guide, trained on them
    run_dir/round-N/validation-*     what decides whether they are used, on the validation prompts
    run_dir/round-N/eval             `decoding` with the models of the round, on `eval_prompts`
    run_dir/round-N/eval-greedy      the LM of the round alone, on the same prompts

Rounds count from 1; round 0 has only the last two, of the models of the config.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nabla_core.config import Decoding, Majority, Sampling
from nabla_core.embedded.weights import model_location
from nabla_core.model_config import LM, Reward
from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.distill.config import DistillConfig, FromRuns, Selection, TrainingRows
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.inputs.prompts import Prompts
from pipeline.train_guide.config import Data, Start, TrainGuideConfig
from pipeline.train_judge.config import Examination, Graded, TrainJudgeConfig


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models in use: the LM, and the judge with the guide (None: the judge itself)."""

    lm: LM
    reward: Reward

    def with_lm(self, path: str) -> Models:
        """The same with an LM in a folder."""
        return replace(self, lm=LM(path))

    def with_judge(self, path: str) -> Models:
        """The same with a judge in a folder."""
        return replace(self, reward=replace(self.reward, judge=path, judge_revision=None))

    def with_guide(self, path: str | None) -> Models:
        """The same with a guide in a folder, or without one."""
        return replace(self, reward=replace(self.reward, guide=path, guide_revision=None))


def search(config: ImproveConfig, number: int, models: Models) -> GenerateConfig:
    """The search on the prompts of the round."""
    prompts = _prompts(config, number)
    return _generate(config, number, "traces", models, prompts, config.decoding)


def samples(config: ImproveConfig, number: int, models: Models) -> GenerateConfig:
    """Plain samples of the prompts of the round."""
    # A vote among one sample: the method that asks no judge.
    decoding = Decoding(
        method="majority",
        max_tokens=config.decoding.max_tokens,
        majority=Majority(1, config.samples.sampling),
    )
    alone = models.with_guide(None)
    made = _generate(config, number, "samples", alone, _prompts(config, number), decoding)
    return replace(made, samples_per_prompt=config.samples.count)


def greedy(config: ImproveConfig, number: int, models: Models) -> GenerateConfig:
    """The LM's greedy answers to the prompts of the round."""
    return _greedily(config, number, "greedy", models, _prompts(config, number))


def evaluate(config: ImproveConfig, number: int, models: Models) -> GenerateConfig:
    """`decoding` on the prompts that all rounds are measured on."""
    return _generate(config, number, "eval", models, config.eval_prompts, config.decoding)


def evaluate_greedy(config: ImproveConfig, number: int, models: Models) -> GenerateConfig:
    """The LM alone on the prompts that all rounds are measured on."""
    return _greedily(config, number, "eval-greedy", models, config.eval_prompts)


def validate(config: ImproveConfig, number: int, name: str, models: Models) -> GenerateConfig:
    """`decoding` on the validation prompts, in the folder `validation-NAME`."""
    validation = config.training.validation
    step = f"validation-{name}"
    made = _generate(config, number, step, models, validation.prompts, config.decoding)
    return replace(made, verify=validation.verify)


def validate_greedy(config: ImproveConfig, number: int, models: Models) -> GenerateConfig:
    """The LM alone on the validation prompts."""
    validation = config.training.validation
    made = _greedily(config, number, "validation-greedy", models, validation.prompts)
    return replace(made, verify=validation.verify)


def distill(
    config: ImproveConfig, number: int, models: Models, folders: Sequence[str]
) -> DistillConfig:
    """The training of the round's LM on the run folders of its traces."""
    section, validation, reward = config.distill, config.training.validation, config.reward
    return DistillConfig(
        run_dir=folder(config, number, "student"),
        seed=config.seed + number,
        # No row is held out: checkpoints are chosen by the answers to validation prompts.
        data=TrainingRows(held_out=0, max_length=section.max_length),
        export=FromRuns(run_dir=tuple(folders), format=section.format, filters=section.filters),
        student=config.lm if section.from_scratch else models.lm,
        optimise=section.optimise,
        validation=Selection(
            prompts=validation.prompts,
            verify=validation.verify,
            judge=reward.judge if section.metric == "reward" else None,
            judge_revision=reward.judge_revision if section.metric == "reward" else None,
            metric=section.metric,
            max_tokens=config.decoding.max_tokens,
            every=section.every,
            max_batch=config.runtime.max_batch,
            max_batch_tokens=config.runtime.max_batch_tokens,
        ),
        workers=replace(section.workers, address=config.cluster.address),
    )


def answers(config: ImproveConfig, number: int, models: Models) -> list[GenerateConfig]:
    """Samples of the LM at each temperature, which the last judge reads."""
    length, prompts = config.decoding.max_tokens, _prompts(config, number)
    alone = models.with_guide(None)
    runs = []
    for temperature in config.judge.temperatures:
        drawn = Decoding(method="sample", max_tokens=length, sample=Sampling(temperature))
        step = f"answers-{temperature:g}"
        made = _generate(config, number, step, alone, prompts, drawn)
        runs.append(replace(made, samples_per_prompt=config.judge.count))
    return runs


def answers_decoded(config: ImproveConfig, number: int, models: Models) -> GenerateConfig:
    """What the LM says under `decoding`: what the last judge may have scored too highly."""
    prompts = _prompts(config, number)
    return _generate(config, number, "answers-decoded", models, prompts, config.decoding)


def train_judge(
    config: ImproveConfig, number: int, models: Models, folders: Sequence[str]
) -> TrainJudgeConfig:
    """The training of the round's judge on run folders of answers."""
    section, validation = config.judge, config.training.validation
    return TrainJudgeConfig(
        data=Graded(runs=tuple(folders), candidates=section.candidates, hard=section.hard),
        run_dir=folder(config, number, "judge"),
        seed=config.seed + number,
        lm=models.lm,
        reward=models.reward,
        goal=section.goal,
        optimise=section.optimise,
        validation=Examination(
            prompts=validation.prompts,
            verify=validation.verify,
            metric=section.metric,
            every=section.every,
            samples=section.samples,
            nabla=validation.nabla,
            max_tokens=config.decoding.max_tokens,
        ),
        runtime=config.runtime,
        workers=replace(section.workers, address=config.cluster.address),
    )


def validate_judge(config: ImproveConfig, number: int, models: Models) -> GenerateConfig:
    """A search with the judge and without a guide on the validation prompts: a change is proposed
    by its likelihood, and the judge alone knows better."""
    validation, search = config.training.validation, config.decoding.nabla
    ranked = replace(search.ranked, beta=None)
    plain = replace(search.rollout, beta=None)
    alone = replace(search, proposals="ranked", ranked=ranked, rollout=plain)
    decoding = replace(config.decoding, method="nabla", nabla=alone)
    step, judged = "validation-judge", models.with_guide(None)
    made = _generate(config, number, step, judged, validation.prompts, decoding)
    return replace(made, verify=validation.verify)


def explore(config: ImproveConfig, number: int, models: Models) -> CounterfactualsConfig:
    """Counterfactuals of the prompts of the round."""
    guide, settings = models.reward.guide, config.explore
    if guide is None:
        # Without a guide there are plain tails.
        settings = replace(settings, tail=replace(settings.tail, beta=None))
    else:
        # A trained guide predicts where a change would raise the reward; the judge as its own guide
        # does not.
        settings = replace(settings, choose="guide")
    return CounterfactualsConfig(
        run_dir=folder(config, number, "counterfactuals"),
        seed=config.seed,
        max_tokens=config.decoding.max_tokens,
        prompts=_prompts(config, number),
        lm=models.lm,
        reward=models.reward,
        explore=settings,
        runtime=config.runtime,
        verify=config.verify,
        cluster=config.cluster,
        store=config.store,
    )


def train(
    config: ImproveConfig,
    number: int,
    models: Models,
    *,
    counterfactuals: Sequence[str],
    traces: Sequence[str],
) -> TrainGuideConfig:
    """The training of the round's guide on run folders of counterfactuals and of traces."""
    training, guide = config.training, models.reward.guide
    if training.from_scratch or guide is None:
        start = training.start
    else:
        # A shipped guide has no place of its own in the settings of a start.
        start = Start(model_location(guide, "guide"), models.reward.guide_revision)
    return TrainGuideConfig(
        data=Data(
            counterfactuals=tuple(counterfactuals),
            traces=tuple(traces) if config.revisions else (),
            held_out=training.held_out,
            min_log_probability=training.min_log_probability,
        ),
        run_dir=folder(config, number, "guide"),
        kind=training.kind,
        # Another seed than in the round before: the order of the batches is drawn from it.
        seed=config.seed + number,
        start=start,
        value_head=training.value_head,
        lm=models.lm,
        reward=models.with_guide(None).reward,
        target=training.target,
        optimise=training.optimise,
        validation=training.validation,
        workers=replace(training.workers, address=config.cluster.address),
    )


def folder(config: ImproveConfig, number: int, step: str) -> str:
    """The run folder of a step of a round."""
    return f"{config.run_dir}/round-{number}/{step}"


def _prompts(config: ImproveConfig, number: int) -> Prompts:
    """The prompts of a round: each round takes the next ones."""
    # New prompts in each round: on old ones the guide has seen the outcome of changes.
    size = config.prompts.limit or 0
    return replace(config.prompts, skip=config.prompts.skip + (number - 1) * size)


def _greedily(
    config: ImproveConfig, number: int, step: str, models: Models, prompts: Prompts
) -> GenerateConfig:
    decoding = Decoding(method="greedy", max_tokens=config.decoding.max_tokens)
    # No guide is used, so none is loaded.
    return _generate(config, number, step, models.with_guide(None), prompts, decoding)


def _generate(
    config: ImproveConfig,
    number: int,
    step: str,
    models: Models,
    prompts: Prompts,
    decoding: Decoding,
) -> GenerateConfig:
    return GenerateConfig(
        run_dir=folder(config, number, step),
        seed=config.seed,
        prompts=prompts,
        lm=models.lm,
        reward=models.reward,
        decoding=decoding,
        runtime=config.runtime,
        verify=config.verify,
        cluster=config.cluster,
        store=config.store,
    )
