"""Settings of part language."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RlooConfig:
    """RLOO on the embedded LM.

    A step of some hundred responses is too noisy: with 24 x 4 responses J fell (2.10 to 2.04 on
    three prompts at rate 3e-4); with 256 x 4 it rose at the same rate (.25 to .77 on sixty
    prompts).

    Attributes:
        steps (steps): Steps of RL.
        prompts_per_step (prompts): Prompts a step.
        group_size (responses): Responses to each prompt of a step, at least 2.
        learning_rate: The largest learning rate.
    """

    steps: int = 40
    prompts_per_step: int = 128
    group_size: int = 4
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"rloo.group_size must be at least 2, got {self.group_size}")


@dataclass(frozen=True)
class LanguageConfig:
    """Part language: sizes of the experiments on the embedded LM.

    40 steps of mh were too few even at beta 4: on the prompts of seed 4, E[r] rose from .10 after
    40 steps to .29 after 80 and .45 after 160, and stayed at .50 in the mean of steps 160 to 320,
    where importance sampling gives .49.

    Attributes:
        betas (judge's units per nat): KL strengths, at least two.
        prompts (prompts): Test prompts a seed.
        reference_samples (responses): Responses of the LM to each prompt.
        samples (responses): Responses of each search to each prompt.
        mh_chains (chains): Chains of method mh for each prompt.
        mh_steps (steps): Steps of a chain of method mh.
        rloo: RL policies, trained once with the first seed and measured on the prompts of every
            seed.
    """

    betas: tuple[float, ...] = (4.0, 2.0, 1.0)
    prompts: int = 10
    reference_samples: int = 4096
    samples: int = 32
    mh_chains: int = 32
    mh_steps: int = 160
    rloo: RlooConfig = field(default_factory=RlooConfig)

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or min(self.betas) <= 0:
            raise ValueError(
                f"language.betas must be positive, two at least, got {list(self.betas)}"
            )
