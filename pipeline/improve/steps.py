"""What the steps of a round of self-improvement run with: settings of other jobs.

    run_dir/round-0/eval             the judge as its own guide, on the prompts measured
    run_dir/round-N/traces           the last guide at work on new prompts
    run_dir/round-N/counterfactuals  what else could have stood there: from the second round on
                                     where the guide sees a change or is not sure
    run_dir/round-N/guide            the next guide, trained on all that is there so far
    run_dir/round-N/eval             that guide, on the prompts measured

Rounds count from 1; `guide` is the folder of the last round's guide, None in the first round.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.inputs.prompts import Prompts
from pipeline.train_guide.config import Data, Start, TrainGuideConfig


def searching(config: ImproveConfig, number: int, guide: str | None) -> GenerateConfig:
    """The last guide on the round's own prompts."""
    run_dir = folder(config, number, "traces")
    return _generating(config, run_dir, guide, _prompts(config, number))


def measuring(config: ImproveConfig, number: int, guide: str | None) -> GenerateConfig:
    """A guide on the prompts that all rounds are measured on."""
    return _generating(config, folder(config, number, "eval"), guide, config.eval_prompts)


def exploring(config: ImproveConfig, number: int, guide: str | None) -> CounterfactualsConfig:
    """Counterfactuals of the round's prompts."""
    return CounterfactualsConfig(
        run_dir=folder(config, number, "counterfactuals"),
        seed=config.seed,
        max_tokens=config.decoding.max_tokens,
        prompts=_prompts(config, number),
        lm=config.lm,
        reward=replace(config.reward, guide=guide),
        explore=replace(config.explore, choose="guide") if guide else config.explore,
        runtime=config.runtime,
        verify=config.verify,
        cluster=config.cluster,
        store=config.store,
    )


def training(config: ImproveConfig, number: int, guide: str | None) -> TrainGuideConfig:
    """The round's guide, from the data of this round and of all before it."""
    learning, rounds = config.training, range(1, number + 1)
    return TrainGuideConfig(
        data=Data(
            tuple(folder(config, n, "counterfactuals") for n in rounds),
            tuple(folder(config, n, "traces") for n in rounds) if learning.revisions else (),
            held_out=learning.held_out,
            min_log_probability=learning.min_log_probability,
        ),
        run_dir=folder(config, number, "guide"),
        kind=learning.kind,
        seed=config.seed + number,
        start=learning.start if learning.from_scratch or not guide else Start(guide),
        lm=config.lm,
        reward=config.reward,
        target=learning.target,
        optimise=learning.optimise,
        validation=learning.validation,
        workers=replace(learning.workers, address=config.cluster.address),
    )


def folder(config: ImproveConfig, number: int, what: str) -> str:
    """The run folder of a step."""
    return f"{config.run_dir}/round-{number}/{what}"


def _prompts(config: ImproveConfig, number: int) -> Prompts:
    size = config.prompts.limit or 0
    return replace(config.prompts, skip=config.prompts.skip + (number - 1) * size)


def _generating(
    config: ImproveConfig, run_dir: str, guide: str | None, prompts: Prompts
) -> GenerateConfig:
    return GenerateConfig(
        run_dir=run_dir,
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
