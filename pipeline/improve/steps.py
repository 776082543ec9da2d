"""The steps of a round, as settings of the jobs that run them.

    run_dir/round-0/eval             the judge as its own guide, on the evaluation prompts
    run_dir/round-N/traces           the last guide's search on new prompts
    run_dir/round-N/counterfactuals  alternatives at positions of responses to the same prompts;
                                     from round 2 on where the guide predicts an improvement
                                     or is not certain
    run_dir/round-N/guide            the next guide, trained on the data of all rounds so far
    run_dir/round-N/eval             the next guide, on the evaluation prompts

Rounds count from 1. `guide` is the folder of the last round's guide, None in round 1.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.inputs.prompts import Prompts
from pipeline.train_guide.config import Data, Start, TrainGuideConfig


def search(config: ImproveConfig, number: int, guide: str | None) -> GenerateConfig:
    """The last guide's search on the prompts of the round."""
    return _generate(config, number, "traces", guide, _prompts(config, number))


def evaluate(config: ImproveConfig, number: int, guide: str | None) -> GenerateConfig:
    """A guide's search on the prompts that all rounds are evaluated on."""
    return _generate(config, number, "eval", guide, config.eval_prompts)


def explore(config: ImproveConfig, number: int, guide: str | None) -> CounterfactualsConfig:
    """Counterfactuals of the prompts of the round."""
    return CounterfactualsConfig(
        run_dir=_folder(config, number, "counterfactuals"),
        seed=config.seed,
        max_tokens=config.decoding.max_tokens,
        prompts=_prompts(config, number),
        lm=config.lm,
        reward=replace(config.reward, guide=guide),
        # A trained guide predicts where a change would raise the reward; the judge as its own guide
        # does not.
        explore=replace(config.explore, choose="guide") if guide else config.explore,
        runtime=config.runtime,
        verify=config.verify,
        cluster=config.cluster,
        store=config.store,
    )


def train(config: ImproveConfig, number: int, guide: str | None) -> TrainGuideConfig:
    """The training of the round's guide on the data of all rounds so far."""
    training, rounds = config.training, range(1, number + 1)
    traces = rounds if training.revisions else ()
    return TrainGuideConfig(
        data=Data(
            counterfactuals=tuple(_folder(config, n, "counterfactuals") for n in rounds),
            traces=tuple(_folder(config, n, "traces") for n in traces),
            held_out=training.held_out,
            min_log_probability=training.min_log_probability,
        ),
        run_dir=_folder(config, number, "guide"),
        kind=training.kind,
        # Another seed than in the round before: the order of the batches is drawn from it.
        seed=config.seed + number,
        start=training.start if training.from_scratch or not guide else Start(guide),
        lm=config.lm,
        reward=config.reward,
        target=training.target,
        optimise=training.optimise,
        validation=training.validation,
        workers=replace(training.workers, address=config.cluster.address),
    )


def _folder(config: ImproveConfig, number: int, step: str) -> str:
    return f"{config.run_dir}/round-{number}/{step}"


def _prompts(config: ImproveConfig, number: int) -> Prompts:
    """The prompts of a round: each round takes the next ones."""
    # New prompts in each round: on old ones the guide has seen the outcome of changes.
    size = config.prompts.limit or 0
    return replace(config.prompts, skip=config.prompts.skip + (number - 1) * size)


def _generate(
    config: ImproveConfig, number: int, step: str, guide: str | None, prompts: Prompts
) -> GenerateConfig:
    return GenerateConfig(
        run_dir=_folder(config, number, step),
        seed=config.seed,
        prompts=prompts,
        lm=config.lm,
        reward=replace(config.reward, guide=guide),
        decoding=config.decoding,
        runtime=config.runtime,
        verify=config.verify,
        cluster=config.cluster,
        store=config.store,
    )
