"""The exact analogue of DTO on tokens: Langevin on the Gumbel noise behind a response.

With y_t = argmax(l_t(y_<t) + G_t) and G standard Gumbel, y is a draw of the LM. So the law
of G weighted by exp(r(y(G)) / beta) gives y ~ pi*_beta, G is continuous, and MALA on it is
exact whatever its drift: the straight-through gradient of the reward can be used, or left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.duality.tokens.enumerable import STATES, T, V, World, number

# The prior's slope e^-g grows without bound to the left; a capped drift is as exact.
CAP = 5.0


@dataclass(eq=False)
class _Point:
    """N chains: noise `[N, T, V]`, the response's number, log density, drift."""

    noise: Tensor
    state: Tensor
    density: Tensor
    drift: Tensor


class GumbelChains:
    """N independent chains; `gradient` adds the reward's straight-through gradient to the
    drift, `metropolis` corrects the proposal (without it the law is not pi*_beta)."""

    def __init__(
        self, world: World, beta: float, *, step: float, gradient: bool, metropolis: bool = True
    ) -> None:
        self._logits = [world.conditionals[:: V ** (T - t), t].float() for t in range(T)]
        self._reward = (world.target.reward / beta).float()
        self._rows = (world.reward_rows / beta).float()
        self._step, self._gradient, self._metropolis = step, gradient, metropolis

    def run(
        self, start: Tensor, chains: int, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        """Counts `[S]` of where the chains end, their responses drawn from the law `start`
        and the noise given those; and the acceptance rate."""
        now = self._point(self._noise(start, chains, generator))
        accepted = 0.0
        for _ in range(steps):
            kick = torch.randn(now.noise.shape, generator=generator) * self._step**0.5
            new = self._point(now.noise + self._step / 2 * now.drift + kick)
            back = now.noise - new.noise - self._step / 2 * new.drift
            forward = -(kick**2).sum((1, 2)) / (2 * self._step)
            backward = -(back**2).sum((1, 2)) / (2 * self._step)
            ratio = new.density - now.density + backward - forward
            take = torch.rand(chains, generator=generator).log() < ratio
            if not self._metropolis:
                take = torch.ones_like(take)
            accepted += float(take.float().mean()) / steps
            wide = take[:, None, None]
            now = _Point(
                torch.where(wide, new.noise, now.noise),
                torch.where(take, new.state, now.state),
                torch.where(take, new.density, now.density),
                torch.where(wide, new.drift, now.drift),
            )
        return torch.bincount(now.state, minlength=STATES).double(), accepted

    def _noise(self, law: Tensor, chains: int, generator: torch.Generator) -> Tensor:
        """Gumbel noise given its response: the winner's score is standard Gumbel (the logits
        are log-probabilities), the others' are Gumbel about their logits, cut off below it."""
        state = law.multinomial(chains, replacement=True, generator=generator)
        uniform = torch.rand(chains, T, V, generator=generator).clamp(1e-7, 1 - 1e-7)
        gumbel = -(-uniform.log()).log()
        noise = torch.empty_like(gumbel)
        for t in range(T):
            logits = self._logits[t][state // V ** (T - t)]
            token = (state // V ** (T - 1 - t) % V)[:, None]
            winner = gumbel[:, t].gather(-1, token)
            scores = -((-winner).exp() + (-(gumbel[:, t] + logits)).exp()).log()
            noise[:, t] = scores.scatter(-1, token, winner) - logits
        return noise

    def _point(self, noise: Tensor) -> _Point:
        prefix = torch.zeros(len(noise), dtype=torch.int64)
        tokens, tilted = [], []
        for t in range(T):
            scores = self._logits[t][prefix] + noise[:, t]
            tokens.append(scores.argmax(-1))
            tilted.append(scores)
            prefix = prefix * V + tokens[-1]
        state = number(torch.stack(tokens, -1))
        slope = (-noise).exp()
        density = -(noise + slope).sum((1, 2)) + self._reward[state]
        drift = (slope - 1).clamp(-CAP, CAP)
        if self._gradient:
            soft = torch.stack(tilted, 1).softmax(-1)
            rows = self._rows[state]
            drift = drift + soft * (rows - (soft * rows).sum(-1, keepdim=True))
        return _Point(noise, state, density, drift)
