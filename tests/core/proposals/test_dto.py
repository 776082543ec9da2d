"""DTO steps against torch.optim.Adam, and the mirror step against its optimality condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nabla_core.config import DTO
from nabla_core.models.logit_map import LogitMap
from nabla_core.proposals.dto import Rows, learning_rate, optimise
from tests.oracle.literal import rate

N, V, D = 6, 11, 5
NONE_BANNED = torch.zeros(V, dtype=torch.bool)
Gradient = Callable[[int], Tensor]


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def literal(
    x: Tensor,
    y: int,
    head: Tensor | None,
    gradient: Gradient,
    dto: DTO,
    *,
    anchored: bool,
    cap: float | None = None,
) -> tuple[Tensor, list[int]]:
    """Adam through the straight-through softmax, one row, by autograd.

    `gradient(token)` is the row while `token` stands there. Returns the optimised x and the
    hard token of every step.
    """
    x = x.clone().requires_grad_()

    def logits() -> Tensor:
        z = x if head is None else x @ head.T
        return z if cap is None else cap * torch.tanh(0.5 * z / cap)

    top = int(logits().argmax())
    adam = torch.optim.Adam([x], lr=dto.learning_rate, betas=(dto.beta1, dto.beta2), eps=dto.eps)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda t: rate(dto, t))
    stood = []
    for _ in range(dto.max_iters):
        token = int(logits().argmax())
        if anchored and token == top:
            token = y
        stood.append(token)
        hard = torch.nn.functional.one_hot(torch.tensor(token), V).float()
        soft = logits().softmax(-1)
        loss = ((hard + soft - soft.detach()) * gradient(token)).sum()
        adam.zero_grad()
        (x.grad,) = torch.autograd.grad(loss, x)
        adam.step()
        schedule.step()
    return x.detach(), stood


def start(x: Tensor, y: Tensor, head: Tensor | None = None, *, anchored: bool = True) -> Rows:
    layer = None
    if head is not None:
        layer = torch.nn.Linear(D, V, bias=False).requires_grad_(False)
        layer.weight.copy_(head)
    return Rows.start(x.clone(), y, layer, NONE_BANNED, anchored=anchored)


@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.parametrize(
    "dto",
    [
        DTO(learning_rate=0.01),
        DTO(learning_rate=0.02, warmup_steps=7),
        DTO(learning_rate=0.02, warmup_steps=20),
        DTO(learning_rate=0.02, warmup_steps=3, schedule="release"),
        DTO(learning_rate=0.03, min_lr_ratio=1.0, max_iters=1),
        DTO(learning_rate=0.01, beta1=0.5, beta2=0.7, eps=1e-2, min_lr_ratio=0.0),
        DTO(learning_rate=0.0),
    ],
)
def test_steps_between_flips_are_adam_through_the_straight_through_softmax(dto: DTO, latents: bool):
    head = random(V, D, seed=3) if latents else None
    x = random(N, D if latents else V, scale=3.0)
    y = torch.arange(N)
    g = random(N, V, seed=1)
    rows = start(x, y, head)
    done = optimise(rows, g, dto, anchored=True)
    for k in range(N):
        expected, stood = literal(x[k], k, head, lambda _, k=k: g[k], dto, anchored=True)
        if set(stood) == {k}:
            assert done[k]
            torch.testing.assert_close(rows.x[k], expected, rtol=1e-5, atol=2e-6)
    assert done.sum() >= N - 2


def test_latents_pass_through_the_scale_and_cap_of_an_lm():
    """Gemma 2 caps its logits, Cohere scales them."""
    head, x = random(V, D, seed=3), random(N, D, scale=3.0)
    g, dto = random(N, V, seed=1), DTO(learning_rate=0.01)
    layer = torch.nn.Linear(D, V, bias=False).requires_grad_(False)
    layer.weight.copy_(head)
    banned = torch.arange(V) == V - 1
    rows = Rows.start(
        x, torch.arange(N), layer, NONE_BANNED, anchored=True, logit_map=LogitMap(0.5, 1.5)
    )
    assert rows.logits().abs().max() > 1.4  # the cap is felt
    done = optimise(rows, g, dto, anchored=True)
    for k in range(N):
        expected, stood = literal(x[k], k, head, lambda _, k=k: g[k], dto, anchored=True, cap=1.5)
        if set(stood) == {k}:
            torch.testing.assert_close(rows.x[k], expected, rtol=1e-5, atol=2e-6)
    assert done.sum() >= N - 2
    # Banned tokens have logit -inf; it has no slope.
    rows = Rows.start(x, torch.arange(N), layer, banned, anchored=True, logit_map=LogitMap(1, 1.5))
    optimise(rows, g, dto, anchored=True)
    assert rows.x.isfinite().all()


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("latents", [False, True])
def test_rows_stop_at_every_flip_and_go_on_with_the_right_gradient(latents: bool, anchored: bool):
    dto = DTO(learning_rate=0.4, max_iters=25, warmup_steps=3)
    head = random(V, D, seed=3) if latents else None
    x = random(N, D if latents else V, seed=4)
    # Some rolled-out tokens are the argmax, some are not.
    z = x if head is None else x @ head.T
    y = torch.where(torch.arange(N) % 2 == 0, z.argmax(-1), (z.argmax(-1) + 1) % V)
    table = random(N, V, V, seed=5)
    rows = start(x, y, head, anchored=anchored)
    seen: list[list[int]] = [[] for _ in range(N)]
    flips = 0
    for _ in range(1 + dto.max_iters):
        hard, before = rows.hard.clone(), rows.t.clone()
        g = table[torch.arange(N), hard]
        done = optimise(rows, g, dto, anchored=anchored)
        for k in range(N):
            seen[k] += [int(hard[k])] * int(rows.t[k] - before[k])
        flips += int((rows.hard != hard).sum())
        if done.all():
            break
    assert done.all()
    assert flips > N
    for k in range(N):
        expected, stood = literal(
            x[k], int(y[k]), head, lambda token, k=k: table[k, token], dto, anchored=anchored
        )
        assert seen[k] == stood
        torch.testing.assert_close(rows.x[k], expected, rtol=1e-4, atol=1e-5)


def test_an_anchored_row_returns_to_its_rolled_out_token():
    """Hard token: y until the argmax leaves its start, the argmax elsewhere, y on return."""
    x = torch.tensor([[1.0, 0.9, -9.0]])
    y = torch.tensor([2])
    rows = Rows.start(x, y, None, torch.zeros(3, dtype=torch.bool), anchored=True)
    dto = DTO(learning_rate=0.3, max_iters=40, min_lr_ratio=1.0)
    assert rows.hard.tolist() == [2]
    away = torch.tensor([[1.0, -1.0, 0.0]])
    optimise(rows, away, dto, anchored=True)
    assert rows.hard.tolist() == [1]
    while rows.hard.tolist() == [1]:
        optimise(rows, -away, dto, anchored=True)
    assert rows.hard.tolist() == [2]


def test_a_row_that_flips_waits_while_others_go_on():
    x = torch.tensor([[0.1, 0.0], [5.0, 0.0]])
    g = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    rows = Rows.start(
        x, torch.tensor([0, 0]), None, torch.zeros(2, dtype=torch.bool), anchored=True
    )
    done = optimise(rows, g, DTO(learning_rate=0.1), anchored=True)
    assert done.tolist() == [False, True]
    assert rows.t.tolist() == [1, 20]
    assert rows.hard.tolist() == [1, 0]


def test_a_flip_at_the_last_step_needs_no_further_gradient():
    x = torch.tensor([[0.1, 0.0]])
    rows = Rows.start(x, torch.tensor([0]), None, torch.zeros(2, dtype=torch.bool), anchored=True)
    g = torch.tensor([[1.0, -1.0]])
    done = optimise(rows, g, DTO(learning_rate=0.1, max_iters=1), anchored=True)
    assert done.tolist() == [True]
    assert rows.logits().argmax(-1).tolist() == [1]


def test_resuming_row_by_row_equals_one_uninterrupted_batch():
    dto = DTO(learning_rate=0.05)
    x, g = random(N, V, scale=2.0), random(N, V, seed=1)
    y = x.argmax(-1)

    def whole(rows: Rows) -> Tensor:
        while not optimise(rows, g[: len(rows.y)], dto, anchored=True).all():
            pass
        return rows.x

    together = whole(start(x, y))
    for k in range(N):
        rows = Rows.start(x[k : k + 1], y[k : k + 1], None, NONE_BANNED, anchored=True)
        while not optimise(rows, g[k : k + 1], dto, anchored=True).all():
            pass
        torch.testing.assert_close(rows.x[0], together[k], rtol=0, atol=0)


def test_the_learning_rate_warms_up_and_falls_on_a_cosine():
    dto = DTO(learning_rate=0.01, max_iters=20, min_lr_ratio=0.1)
    rates = learning_rate(dto, torch.arange(20)).tolist()
    assert rates[0] == pytest.approx(0.01)
    assert rates[10] == pytest.approx(0.0055)
    assert rates[19] == pytest.approx(0.01 * (0.1 + 0.45 * (1 + math.cos(math.pi * 0.95))))
    warm = learning_rate(DTO(learning_rate=0.01, warmup_steps=4), torch.arange(6)).tolist()
    assert warm[:5] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
    assert warm[5] < 0.01


def test_both_schedules_are_their_formulas():
    """Of the release: max(.1, cosine), which is its own rate until the 16th of 20 steps."""
    cosine = [0.5 * (1 + math.cos(math.pi * t / 20)) for t in range(20)]
    ours = learning_rate(DTO(), torch.arange(20)).tolist()
    theirs = learning_rate(DTO(schedule="release"), torch.arange(20)).tolist()
    assert ours == pytest.approx([0.01 * (0.1 + 0.9 * c) for c in cosine], abs=1e-12)
    assert theirs == pytest.approx([0.01 * max(0.1, c) for c in cosine], abs=1e-12)
    assert theirs[15] == pytest.approx(0.01 * cosine[15])
    assert theirs[16:] == pytest.approx([0.001] * 4)
    assert (sum(ours), sum(theirs)) == pytest.approx((0.1145, 0.1072), abs=5e-5)
    zero = learning_rate(DTO(schedule="release", min_lr_ratio=0.0), torch.arange(20)).tolist()
    assert zero == pytest.approx([0.01 * c for c in cosine], abs=1e-12)


def test_mirror_minimises_the_linearised_loss_plus_divergence():
    beta = 1 / 1.7
    z, g = random(N, V, scale=2.0), random(N, V, seed=1, scale=2.0)
    rows = start(z, z.argmax(-1))
    done = optimise(rows, g, DTO(optimizer="mirror", beta=beta), anchored=True)
    assert done.all()
    q, log_p = rows.logits().double().softmax(-1), z.double().log_softmax(-1)

    def objective(q: Tensor) -> Tensor:
        return (q * g).sum(-1) + beta * (q * (q.log() - log_p)).sum(-1)

    # At the minimum over the simplex the gradient is the same for every token (KKT).
    slope = g.double() + beta * (q.log() - log_p + 1)
    torch.testing.assert_close(slope, slope[:, :1].expand_as(slope), rtol=0, atol=1e-5)
    for seed in range(20):
        other = (q.log() + random(N, V, seed=seed, scale=0.1)).softmax(-1)
        assert (objective(other) > objective(q)).all()


def test_mirror_without_a_beta_changes_nothing():
    z = random(N, V)
    rows = start(z, z.argmax(-1))
    optimise(rows, random(N, V, seed=1), DTO(optimizer="mirror", beta=None), anchored=True)
    assert torch.equal(rows.x, z)


def test_banned_tokens_are_never_reached_and_pull_no_other():
    banned = NONE_BANNED.clone()
    banned[[2, 7]] = True
    x, g = random(N, V), random(N, V, seed=1)
    g[:, 2] = -1e6
    kept = [k for k in range(V) if not banned[k]]
    dto = DTO(learning_rate=0.5, max_iters=10)
    rows = Rows.start(x.clone(), x[:, kept].argmax(-1), None, banned, anchored=False)
    small = Rows.start(
        x[:, kept].clone(),
        x[:, kept].argmax(-1),
        None,
        torch.zeros(len(kept), dtype=torch.bool),
        anchored=False,
    )
    for _ in range(10):
        optimise(rows, g, dto, anchored=False)
        optimise(small, g[:, kept], dto, anchored=False)
    assert (rows.logits()[:, [2, 7]] == float("-inf")).all()
    torch.testing.assert_close(rows.logits()[:, kept], small.logits())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_iters": -1}, "max_iters"),
        ({"warmup_steps": 21}, "warmup_steps"),
        ({"optimizer": "mirror", "variable": "latents"}, "latents"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, object], named: str):
    with pytest.raises(ValueError, match=named):
        DTO(**settings)  # type: ignore[arg-type]


def test_weight_decay_is_decoupled_and_of_the_row_alone():
    dto = DTO(learning_rate=0.02, weight_decay=0.5, max_iters=1)
    x, g = random(N, V, scale=3.0), random(N, V, seed=1)
    rows, plain = start(x, torch.arange(N)), start(x, torch.arange(N))
    optimise(rows, g, dto, anchored=True)
    optimise(plain, g, replace(dto, weight_decay=0.0), anchored=True)
    torch.testing.assert_close(rows.x, plain.x - 0.02 * 0.5 * x)


def test_gumbel_noise_is_a_rows_own_and_repeats():
    """Rows taken out or put beside others move as before; other streams move differently."""
    dto = DTO(learning_rate=0.05, gumbel_noise=1.0, max_iters=5)
    x, g = random(N, V, scale=3.0), random(N, V, seed=1)
    stream = torch.arange(N) * 1000

    def run(index: list[int], streams: Tensor) -> Rows:
        y = x[index].argmax(-1)
        rows = Rows.start(x[index], y, None, NONE_BANNED, anchored=True, stream=streams)
        optimise(rows, g[index], dto, anchored=True)
        return rows

    everything = list(range(N))
    whole, part = run(everything, stream), run([4, 1], stream[[4, 1]])
    assert torch.equal(whole.x[[4, 1]], part.x)
    assert torch.equal(whole.hard[[4, 1]], part.hard)
    assert not torch.equal(whole.x, run(everything, stream + 7).x)
    quiet = start(x, x.argmax(-1))
    optimise(quiet, g, replace(dto, gumbel_noise=0.0), anchored=True)
    assert (whole.t < quiet.t).any(), "noise never moved an argmax"
