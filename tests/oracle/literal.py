"""The paper's algorithm, word for word: one prompt, no batch, no cache, no shortcut.

Every selected position gets a fresh gradient, every optimisation step runs both models
forward and backward through one-hot inputs, every token is decoded from scratch. Slow, and
meant to be read: this file is the specification that the product is held to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nabla_core.config import DTO, NablaConfig, Sampling
from nabla_core.draws import DrawKey, uniform


@dataclass
class Models:
    """LM, and the reward models in their two roles; all with the same vocabulary, no template."""

    lm: Any
    guide: Any
    judge: Any
    stop: int


@dataclass
class Decision:
    """One proposal: where, from what to what, and whether the judge preferred it."""

    position: int
    from_token: int
    to_token: int
    accepted: bool


@dataclass
class Outcome:
    """The refined response, the decisions on the way, and the passes they took.

    A gradient pass is one forward and backward through LM and guide. `passes` counts
    sequences by model ("lm", "rm", or "lm gradient", "rm gradient" for both ways) and length.
    """

    base: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    base_reward: float = 0.0
    reward: float = 0.0
    decisions: list[Decision] = field(default_factory=list)
    gradient_passes: int = 0
    rm_scores: int = 0
    rollouts: int = 0
    passes: Counter[tuple[str, int]] = field(default_factory=Counter)


class Literal:
    """Algorithm 1 for one prompt at a time."""

    def __init__(
        self,
        models: Models,
        config: NablaConfig,
        *,
        seed: int,
        max_tokens: int,
        every_step: bool = True,
    ) -> None:
        """`every_step` runs the models at every optimiser step, word for word. Without it,
        only where the hard token is another than at the step before: the gradient with
        respect to the one-hots is the same in between. Benchmarks use that, as the fairer
        rival."""
        self.every_step = every_step
        self.models = models
        self.config = config
        self.seed = seed
        self.max_tokens = max_tokens

    def run(self, prompt_id: str, x: list[int], sample: int = 0) -> Outcome:
        """Refine one prompt given as ids."""
        out = Outcome()
        self.out = out
        self.key: Callable[[str], DrawKey] = partial(DrawKey, self.seed, prompt_id, sample)
        y = self.rollout(x, [], 0)
        out.base = list(y)
        reward = out.base_reward = self.judge(x, y)
        z = self.logits(x, y)
        boundary = 0
        tried = 0
        while tried < self.config.max_rollouts:
            i = self.select(x, y, z, boundary)
            if i is None:
                break
            b = self.resample(self.optimise(x, y, z, i), i)
            boundary = i + 1
            if b == y[i]:
                continue
            tried += 1
            revised = self.rollout(x, [*y[:i], b], tried)
            new_reward = self.judge(x, revised)
            accepted = new_reward > reward
            out.decisions.append(Decision(i, y[i], b, accepted))
            if accepted:
                y, reward = revised, new_reward
                z = self.logits(x, y)
        out.tokens, out.reward = y, reward
        return out

    # 1. Rollout ------------------------------------------------------------------------

    def rollout(self, x: list[int], prefix: list[int], number: int) -> list[int]:
        y = list(prefix)
        while len(y) < self.max_tokens and not (y and y[-1] == self.models.stop):
            with torch.no_grad():
                logits = self.models.lm(input_ids=torch.tensor([x + y])).logits[0, -1]
            self.out.passes["lm", len(x) + len(y)] += 1
            u = uniform(self.key(f"rollout {number}"), len(y))
            y.append(sample_token(logits.float(), self.config.rollout, u))
        self.out.rollouts += 1
        return y

    def logits(self, x: list[int], y: list[int]) -> Tensor:
        """z `[T, V]`: the logits that predicted each response token."""
        with torch.no_grad():
            logits = self.models.lm(input_ids=torch.tensor([x + y])).logits[0]
        self.out.passes["lm", len(x) + len(y)] += 1
        return logits[len(x) - 1 : -1].float()

    def judge(self, x: list[int], y: list[int]) -> float:
        with torch.no_grad():
            logits = self.models.judge(input_ids=torch.tensor([x + y])).logits
        self.out.rm_scores += 1
        self.out.passes["rm", len(x) + len(y)] += 1
        return float(logits[0, 0])

    # 2. The loss, through one-hot inputs -----------------------------------------------

    def loss(self, x: list[int], onehots: Tensor) -> Tensor:
        """-(nll_coeff * log p(y | x) + reward_coeff * r(x, y)) of one-hot rows `[T, V]`."""
        lm, guide, objective = self.models.lm, self.models.guide, self.config.objective
        prompt = torch.tensor([x])
        table = lm.get_input_embeddings().weight
        inputs = torch.cat([table[prompt], (onehots @ table)[None]], 1)
        logits = lm(inputs_embeds=inputs).logits[0]
        log_p = logits[len(x) - 1 : -1].log_softmax(-1)
        log_likelihood = (onehots * log_p).sum()
        table = guide.get_input_embeddings().weight
        inputs = torch.cat([table[prompt], (onehots @ table)[None]], 1)
        # A classifier reads its reward at the last token that is not pad.
        ids = torch.tensor([*x, *onehots.argmax(-1).tolist()])
        end = int((ids != guide.config.pad_token_id).nonzero().max())
        reward = guide.score(guide.model(inputs_embeds=inputs).last_hidden_state[0, end])[0]
        self.out.gradient_passes += 1
        self.out.passes["lm gradient", inputs.size(1)] += 1
        self.out.passes["rm gradient", inputs.size(1)] += 1
        return -(objective.nll_coeff * log_likelihood + objective.reward_coeff * reward)

    def hard(self, y: list[int], z: Tensor, i: int, token: int) -> Tensor:
        """The one-hot sequence gradients are taken at while `token` stands at i."""
        ahead = y[i + 1 :]
        if self.config.anchor == "argmax":
            ahead = z[i + 1 :].argmax(-1).tolist()
        return torch.nn.functional.one_hot(
            torch.tensor([*y[:i], token, *ahead]), z.size(-1)
        ).float()

    # 3. Select -------------------------------------------------------------------------

    def select(self, x: list[int], y: list[int], z: Tensor, boundary: int) -> int | None:
        select = self.config.select
        for i in range(boundary, len(y)):
            p = z[i].softmax(-1)
            entropy = -(p * p.clamp(min=1e-30).log()).sum()
            if p.max() > select.confidence_threshold or entropy < select.entropy_threshold:
                continue
            start = y[i] if self.config.anchor == "rollout" else int(z[i].argmax())
            onehots = self.hard(y, z, i, start).requires_grad_()
            (g,) = torch.autograd.grad(self.loss(x, onehots), onehots)
            if g[i].norm() >= select.grad_threshold:
                return i
        return None

    # 4. DTO ----------------------------------------------------------------------------

    def optimise(self, x: list[int], y: list[int], z: Tensor, i: int) -> Tensor:
        """Adam on the logits at i through the straight-through softmax."""
        dto = self.config.dto
        row = z[i].clone().requires_grad_()
        top = int(row.argmax())
        adam = torch.optim.Adam(
            [row], lr=dto.learning_rate, betas=(dto.beta1, dto.beta2), eps=dto.eps
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda t: rate(dto, t))
        known: tuple[int, Tensor] | None = None
        for _ in range(dto.max_iters):
            token = int(row.argmax())
            if self.config.anchor == "rollout" and token == top:
                token = y[i]
            soft = row.softmax(-1)
            if self.every_step or known is None or known[0] != token:
                onehots = self.hard(y, z, i, token)
                straight = (onehots[i] + soft - soft.detach()).detach().requires_grad_()
                loss = self.loss(x, torch.cat([onehots[:i], straight[None], onehots[i + 1 :]]))
                (gradient,) = torch.autograd.grad(loss, straight)
                known = token, gradient
            (row.grad,) = torch.autograd.grad(soft, row, known[1])
            adam.step()
            schedule.step()
        return row.detach()

    # 5. Resample -----------------------------------------------------------------------

    def resample(self, row: Tensor, i: int) -> int:
        return sample_token(row, self.config.resample, uniform(self.key("resample"), i))


def rate(dto: DTO, t: int) -> float:
    """Linear warm-up, then the schedule, as a factor of the learning rate."""
    if t < dto.warmup_steps:
        return (t + 1) / dto.warmup_steps
    progress = (t - dto.warmup_steps) / max(1, dto.max_iters - dto.warmup_steps)
    cosine = 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * min(progress, 1.0)).double())))
    if dto.schedule == "release":
        return max(dto.min_lr_ratio, cosine)
    return dto.min_lr_ratio + (1 - dto.min_lr_ratio) * cosine


def sample_token(logits: Tensor, sampling: Sampling, u: float) -> int:
    """Inverse CDF over ids in order, after temperature, top-k and top-p."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    p = (logits.double() / sampling.temperature).softmax(-1)
    order = p.argsort(descending=True)
    if sampling.top_k:
        keep = order[: sampling.top_k]
        p = torch.zeros_like(p).index_copy(0, keep, p[keep])
        p = p / p.sum()
    if sampling.top_p < 1:
        total, keep_ids = 0.0, []
        for token in order.tolist():
            if total >= sampling.top_p:
                break
            keep_ids.append(token)
            total += float(p[token])
        p = torch.zeros_like(p).index_copy(0, torch.tensor(keep_ids), p[keep_ids])
    target, total = u * float(p.sum()), 0.0
    for token, mass in enumerate(p.tolist()):
        total += mass
        if total > target:
            return token
    return max(t for t, mass in enumerate(p.tolist()) if mass > 0)
