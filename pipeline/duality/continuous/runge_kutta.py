"""The classical fourth-order Runge-Kutta method."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def runge_kutta(change: Callable[[Tensor], Tensor], x: Tensor, h: float, steps: int) -> Tensor:
    """x after `steps` steps of size h of dx / dt = change(x)."""
    for _ in range(steps):
        a = change(x)
        b = change(x + h / 2 * a)
        c = change(x + h / 2 * b)
        x = x + h / 6 * (a + 2 * b + 2 * c + change(x + h * c))
    return x
