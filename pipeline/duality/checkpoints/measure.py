"""From the rows of part policy to findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.duality.checkpoints.config import Policy
from pipeline.duality.findings import Book
from pipeline.duality.language.estimators import mean_over_prompts, optimum
from pipeline.duality.language.plane import Plane


def measure(rows: Sequence[dict[str, Any]], settings: Policy, seed: int) -> Book:
    """The policy's KL and reward with intervals, the frontier where it is estimable."""
    book = Book("policy")
    prompts = list(dict.fromkeys(row["prompt_id"] for row in rows))
    by_arm: dict[str, dict[str, list[dict[str, Any]]]] = {
        arm: {p: [] for p in prompts} for arm in ("policy", "reference")
    }
    for row in rows:
        by_arm[row["arm"]][row["prompt_id"]].append(row)

    def column(arm: str, name: str) -> Tensor:
        values = [[float(row[name]) for row in by_arm[arm][p]] for p in prompts]
        return torch.tensor(values, dtype=torch.float64)

    rewards = column("reference", "reward")
    betas = sorted(settings.betas, reverse=True)
    plane = Plane(book, rewards, {beta: optimum(rewards, beta) for beta in betas}, seed)
    plane.frontier()
    graded = all(row["correct"] is not None for row in rows)
    for arm in ("reference", "policy"):
        ratio = column(arm, "log_p_policy") - column(arm, "log_p_ref")
        numbers = {"E[r]": column(arm, "reward"), "E[log p_ref]": column(arm, "log_p_ref")}
        if graded:
            numbers["accuracy"] = column(arm, "correct")
        if arm == "reference":
            # The reference's KL to itself; its own responses tell the reverse KL beside it.
            reverse = mean_over_prompts(-ratio)
            book.report("KL(reference || policy)", arm, seed, reverse.value)
            ratio = torch.zeros_like(ratio)
        estimates = {name: mean_over_prompts(values) for name, values in numbers.items()}
        plane.density(arm, mean_over_prompts(ratio), estimates, gap=arm == "policy")
    return book
