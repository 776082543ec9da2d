"""Settings of part tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokensConfig:
    """Part tokens: sizes of the experiments on enumerated responses.

    Attributes:
        betas (reward's units per nat): KL strengths, at least two; the chains use the first one.
        rl_steps (steps): Steps of RL.
        rl_learning_rate: The largest learning rate of RL.
        rl_batch (responses): Responses a step of RL.
        grpo: Also trains GRPO with TRL, which the extra `train` installs.
        grpo_steps (steps): Steps of GRPO.
        grpo_learning_rate: The largest learning rate of GRPO.
        grpo_batch (responses): Responses a step of GRPO.
        chain_steps (steps): Steps of the Markov chains on responses.
        gumbel_chains (chains): Chains of Gumbel-MALA.
        gumbel_steps (steps): Steps of a chain of Gumbel-MALA.
        decoding_runs (runs): Monte-Carlo runs of nabla decoding on the tables.
        library_runs (runs): Runs of the library's own decoding loops.
    """

    betas: tuple[float, ...] = (1.0, 0.5, 0.25)
    rl_steps: int = 1_200
    rl_learning_rate: float = 6e-3
    rl_batch: int = 512
    grpo: bool = True
    grpo_steps: int = 300
    grpo_learning_rate: float = 6e-3
    grpo_batch: int = 256
    chain_steps: int = 400
    gumbel_chains: int = 100_000
    gumbel_steps: int = 40
    decoding_runs: int = 100_000
    library_runs: int = 1_000

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or min(self.betas) <= 0:
            raise ValueError(f"tokens.betas must be positive, two at least, got {list(self.betas)}")
