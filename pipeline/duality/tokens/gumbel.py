"""The exact analogue of DTO on tokens: Langevin on the Gumbel noise behind a response.

T5: with y_t = argmax(l_t(y_<t) + G_t) and G standard Gumbel, y is a draw of the LM (the
Gumbel-max trick). So if G has its law weighted by exp(r(y(G)) / beta), then y ~ pi*_beta. G is
continuous, and MALA (Langevin proposals with a Metropolis test) on G is exact whatever its
drift: the straight-through gradient of the reward can be part of it or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.duality.tokens.enumerable import STATES, EnumeratedModels, T, V, number

# The gradient e^-g - 1 of the prior grows without bound to the left. A clipped drift keeps the
# proposals in a sensible range and changes nothing about exactness.
MAX_DRIFT = 5.0


@dataclass(frozen=True, eq=False)
class _State:
    """N chains: `noise` `[N, T, V]`; of each the index of its response, the log density up to a
    constant, both `[N]`, and the `drift` `[N, T, V]`."""

    noise: Tensor
    response: Tensor
    log_density: Tensor
    drift: Tensor


class GumbelChains:
    """N independent chains. `gradient` adds the straight-through gradient of the reward to the
    drift; `metropolis` corrects the proposals (without it the law is not pi*_beta)."""

    def __init__(
        self,
        models: EnumeratedModels,
        beta: float,
        *,
        step_size: float,
        gradient: bool,
        metropolis: bool = True,
    ) -> None:
        # Of each t: log p(. | prefix) of all prefixes of t tokens, [V^t, V].
        self._logits = [models.conditionals[:: V ** (T - t), t].float() for t in range(T)]
        self._reward = (models.problem.reward / beta).float()
        self._rows = (models.reward_rows / beta).float()
        self._step_size, self._gradient, self._metropolis = step_size, gradient, metropolis

    def run(
        self, start: Tensor, chains: int, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        """Counts `[S]` of the responses at which the chains end, and the acceptance rate.

        The first responses are drawn from the law `start`, then the noise given each response.
        """
        h = self._step_size
        now = self._state(self._noise(start, chains, generator))
        acceptance = 0.0
        for _ in range(steps):
            kick = torch.randn(now.noise.shape, generator=generator) * h**0.5
            new = self._state(now.noise + h / 2 * now.drift + kick)
            # Metropolis-Hastings: log of density ratio times backward over forward proposal.
            back = now.noise - new.noise - h / 2 * new.drift
            log_forward = -(kick**2).sum((1, 2)) / (2 * h)
            log_backward = -(back**2).sum((1, 2)) / (2 * h)
            log_ratio = new.log_density - now.log_density + log_backward - log_forward
            accept = torch.rand(chains, generator=generator).log() < log_ratio
            if not self._metropolis:
                accept = torch.ones_like(accept)
            acceptance += float(accept.float().mean()) / steps
            accept_rows = accept[:, None, None]
            now = _State(
                noise=torch.where(accept_rows, new.noise, now.noise),
                response=torch.where(accept, new.response, now.response),
                log_density=torch.where(accept, new.log_density, now.log_density),
                drift=torch.where(accept_rows, new.drift, now.drift),
            )
        return torch.bincount(now.response, minlength=STATES).double(), acceptance

    def _noise(self, law: Tensor, chains: int, generator: torch.Generator) -> Tensor:
        """Gumbel noise `[N, T, V]` given responses drawn from a law.

        The chosen token's score (logit + noise) is the maximum, and standard Gumbel, since the
        logits are log-probabilities. The scores of the others are Gumbel with their logits as
        locations, truncated at the maximum (Maddison et al., 2014).
        """
        response = law.multinomial(chains, replacement=True, generator=generator)
        uniform = torch.rand(chains, T, V, generator=generator).clamp(1e-7, 1 - 1e-7)
        gumbel = -(-uniform.log()).log()
        noise = torch.empty_like(gumbel)
        for t in range(T):
            logits = self._logits[t][response // V ** (T - t)]
            token = (response // V ** (T - 1 - t) % V)[:, None]
            maximum = gumbel[:, t].gather(-1, token)
            scores = -((-maximum).exp() + (-(gumbel[:, t] + logits)).exp()).log()
            noise[:, t] = scores.scatter(-1, token, maximum) - logits
        return noise

    def _state(self, noise: Tensor) -> _State:
        """The responses, log densities and drifts that belong to the noise."""
        prefix = torch.zeros(len(noise), dtype=torch.int64)
        tokens, scores = [], []
        for t in range(T):
            scores.append(self._logits[t][prefix] + noise[:, t])
            tokens.append(scores[-1].argmax(-1))
            prefix = prefix * V + tokens[-1]
        response = number(torch.stack(tokens, -1))
        # log density of a standard Gumbel: -(g + e^-g); its derivative: e^-g - 1.
        exp_minus = (-noise).exp()
        log_density = -(noise + exp_minus).sum((1, 2)) + self._reward[response]
        drift = (exp_minus - 1).clamp(-MAX_DRIFT, MAX_DRIFT)
        if self._gradient:
            # Straight-through: the reward's gradient at the one-hots, through the softmax.
            soft = torch.stack(scores, 1).softmax(-1)
            rows = self._rows[response]
            drift = drift + soft * (rows - (soft * rows).sum(-1, keepdim=True))
        return _State(noise=noise, response=response, log_density=log_density, drift=drift)
