"""Differentiable textual optimisation (DTO; paper, section 3) of many positions at once.

Let g be the gradient row of the loss at a position, for its present hard token. Through the
straight-through softmax `hard + soft - soft.detach()` the gradient of the loss with respect to
the logits z is the softmax Jacobian applied to g:

    dz = s * (g - <s, g>),  s = softmax(z)

so a step needs no model call. When the argmax of z moves, the hard token moves, and g is not
the gradient at the new point: the row stops until it is given the right one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nabla_core.config import DTO
from nabla_core.models.logit_map import LogitMap
from nabla_core.sampling import check_distributions


@dataclass(eq=False, kw_only=True)
class Rows:
    """n positions under optimisation.

    x         `[n, V]` logits or `[n, D]` latents, fp32
    m, v      Adam's moments, shaped like x
    t         int64 `[n]`, steps taken
    hard      int64 `[n]`, the token that the present gradient row belongs to
    y         int64 `[n]`, the rolled-out tokens
    top       int64 `[n]`, the argmax that the rows started with
    stream    int64 `[n]`, seeds of each row's Gumbel noise
    head      the LM's output layer, of which x are the inputs; None where x are logits
    logit_map from the outputs of that layer to logits
    banned    bool `[V]`, ids that may not be proposed
    """

    # fp32 whatever the model's type: in bf16 a step of DTO is below the spacing of numbers.

    x: Tensor
    m: Tensor
    v: Tensor
    t: Tensor
    hard: Tensor
    y: Tensor
    top: Tensor
    stream: Tensor
    head: nn.Linear | None
    logit_map: LogitMap
    banned: Tensor

    @classmethod
    def start(
        cls,
        x: Tensor,
        y: Tensor,
        head: nn.Linear | None,
        banned: Tensor,
        *,
        anchored: bool,
        stream: Tensor | None = None,
        logit_map: LogitMap = LogitMap(),  # noqa: B008 - frozen
    ) -> Rows:
        """Rows before their first step. `anchored`: the hard token is the rolled-out one until
        the argmax moves; otherwise it is the argmax from the beginning."""
        rows = cls(
            x=x.clone(),
            m=torch.zeros_like(x),
            v=torch.zeros_like(x),
            t=torch.zeros_like(y),
            hard=y,
            y=y,
            top=y,
            stream=torch.zeros_like(y) if stream is None else stream,
            head=head,
            logit_map=logit_map,
            banned=banned,
        )
        rows.top = rows.logits().argmax(-1)
        rows.hard = (y if anchored else rows.top).clone()
        return rows

    def take(self, index: list[int]) -> Rows:
        """A copy of some of the rows."""
        return replace(self, **{name: getattr(self, name)[index] for name in _STATE})

    def put(self, index: list[int], part: Rows) -> None:
        """Write back rows that `take` copied."""
        for name in _STATE:
            getattr(self, name)[index] = getattr(part, name)

    def restart(self, index: list[int]) -> None:
        """Reset the optimiser of some rows; their x stays."""
        for tensor in (self.m, self.v, self.t):
            tensor[index] = 0

    def logits(self) -> Tensor:
        """fp32 `[n, V]`, -inf at banned tokens."""
        z = self.x
        if self.head is not None:
            z = z @ self.head.weight.float().T
            z = z if self.head.bias is None else z + self.head.bias.float()
            z = self.logit_map(z)
        return z.masked_fill(self.banned, float("-inf"))


_STATE = ("x", "m", "v", "t", "hard", "y", "top", "stream")


def optimise(rows: Rows, g: Tensor, config: DTO, *, anchored: bool) -> Tensor:
    """Step every row until it has taken `max_iters` steps or its hard token moves.

    g fp32 `[n, V]` are the gradient rows for `rows.hard`. Updates rows in place, `rows.hard`
    included. Returns bool `[n]`: True where all `max_iters` steps are taken. Raises NonFiniteError
    where a step leaves the range of numbers.
    """
    done = _optimise(rows, g, config, anchored=anchored)
    check_distributions(rows.x)
    return done


def _optimise(rows: Rows, g: Tensor, config: DTO, *, anchored: bool) -> Tensor:
    """See `optimise`."""
    g = g.masked_fill(rows.banned, 0.0)
    if config.optimizer == "mirror":
        # argmin_q <g, q> + beta KL(q || softmax(x)), in closed form.
        if config.beta is not None:
            rows.x = rows.x - g / config.beta
        rows.t = torch.full_like(rows.t, config.max_iters)
        return torch.ones_like(rows.t, dtype=torch.bool)
    hard_of_g = rows.hard  # the tokens that g belongs to
    for _ in range(config.max_iters):
        # A row whose hard token moved waits: g is not its gradient any more.
        active = (rows.hard == hard_of_g) & (rows.t < config.max_iters)
        if not active.any():
            break
        adam_step(rows, g, active, config)
        now = hard_tokens(rows, _noise(rows, config), anchored=anchored)
        # Written for active rows only: the others keep the token they stopped at.
        rows.hard = torch.where(active, now, rows.hard)
    return rows.t >= config.max_iters


def hard_tokens(rows: Rows, noise: Tensor | float = 0.0, *, anchored: bool) -> Tensor:
    """The present hard token of every row, int64 `[n]`; see `Rows.start`. `noise` is added to
    the logits."""
    top = (rows.logits() + noise).argmax(-1)
    return torch.where(top == rows.top, rows.y, top) if anchored else top


def learning_rate(config: DTO, t: Tensor) -> Tensor:
    """Rate of step t (0-based), float64: linear warm-up, then `DTO.schedule`."""
    t = t.double()
    warm = (t + 1) / max(1, config.warmup_steps)
    progress = (t - config.warmup_steps) / max(1, config.max_iters - config.warmup_steps)
    cosine = 0.5 * (1 + torch.cos(math.pi * progress.clamp(0, 1)))
    if config.schedule == "release":
        decayed = cosine.clamp(min=config.min_lr_ratio)
    else:
        decayed = config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine
    return config.learning_rate * torch.where(t < config.warmup_steps, warm, decayed)


def adam_step(rows: Rows, g: Tensor, active: Tensor, config: DTO) -> None:
    """One step of the `active` rows (bool `[n]`), in place, given the gradient rows g `[n, V]`
    at their hard tokens."""
    z = rows.logits()
    soft = (z + _noise(rows, config)).softmax(-1)
    d = soft * (g - (soft * g).sum(-1, keepdim=True))
    if rows.head is not None:
        d = (d * rows.logit_map.slope(z)) @ rows.head.weight.float()
    # Rows are at different steps: each has its own rate and bias correction.
    on = active[:, None]
    rows.m = torch.where(on, rows.m + (1 - config.beta1) * (d - rows.m), rows.m)
    rows.v = torch.where(on, config.beta2 * rows.v + (1 - config.beta2) * d * d, rows.v)
    t = (rows.t + 1).double()[:, None]
    rate = learning_rate(config, rows.t)[:, None] / (1 - config.beta1**t)
    scale = (1 - config.beta2**t).sqrt()
    # Epsilon is added as torch.optim.Adam does: many gradient entries are below it.
    step = rate.float() * rows.m / (rows.v.sqrt() / scale.float() + config.eps)
    if config.weight_decay:
        step = step + config.weight_decay * learning_rate(config, rows.t)[:, None].float() * rows.x
    rows.x = torch.where(on, rows.x - step, rows.x)
    rows.t = torch.where(active, rows.t + 1, rows.t)


def _noise(rows: Rows, config: DTO) -> Tensor | float:
    """Gumbel noise `[n, V]` for each row's present step; it does not depend on the batch."""
    if not config.gumbel_noise:
        return 0.0
    noise = torch.empty(len(rows.t), rows.banned.numel())
    for row, stream, t in zip(noise, rows.stream.tolist(), rows.t.tolist(), strict=True):
        row.exponential_(generator=torch.Generator().manual_seed(stream + t))
    return -config.gumbel_noise * noise.log().to(rows.x.device)
