"""Settings of part tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokensConfig:
    """Sizes of the experiments on enumerated responses.

    `betas`: KL strengths, at least two; the chains use the first one. RL runs `rl_steps` steps
    of `rl_batch` responses at the peak learning rate `rl_learning_rate`. `grpo`: also train
    GRPO with TRL, with its own `grpo_steps`, `grpo_learning_rate` and `grpo_batch`.
    `chain_steps`: steps of the Markov chains on responses. `gumbel_chains` Gumbel-MALA chains
    of `gumbel_steps` steps. `decoding_runs`: Monte-Carlo runs of nabla decoding on the tables.
    `library_runs`: runs of the library's own decoding loops.
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
