"""From the rows of part checkpoints to its findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.duality import names
from pipeline.duality.checkpoints.config import CheckpointsConfig
from pipeline.duality.findings import PartResults
from pipeline.duality.language.arm_recorder import ArmRecorder
from pipeline.duality.language.estimators import estimate_optimum, mean_over_prompts


def measure(rows: Sequence[dict[str, Any]], settings: CheckpointsConfig, seed: int) -> PartResults:
    """KL and reward of the policy with intervals, and the frontier where it is estimable.

    rows: those of all samples of all prompts, from both models.
    """
    results = PartResults("checkpoints")
    prompts = list(dict.fromkeys(row["prompt_id"] for row in rows))
    by_arm: dict[str, dict[str, list[dict[str, Any]]]] = {
        arm: {p: [] for p in prompts} for arm in ("policy", "reference")
    }
    for row in rows:
        by_arm[row["arm"]][row["prompt_id"]].append(row)

    def column(arm: str, name: str) -> Tensor:
        values = [[float(row[name]) for row in by_arm[arm][p]] for p in prompts]
        return torch.tensor(values, dtype=torch.float64)

    # The frontier needs samples of the reference only.
    rewards = column("reference", "reward")
    betas = sorted(settings.betas, reverse=True)
    optima = {beta: estimate_optimum(rewards, beta) for beta in betas}
    recorder = ArmRecorder(results, rewards, optima, seed)
    recorder.frontier()
    # An accuracy over a part of the prompts would be that of another set.
    graded = all(row["correct"] is not None for row in rows)
    for arm in ("reference", "policy"):
        # log(p / p_ref): its mean under the policy is KL(policy || reference).
        ratio = column(arm, "log_p_policy") - column(arm, "log_p_ref")
        columns = {names.REWARD: column(arm, "reward"), names.LOG_REF: column(arm, "log_p_ref")}
        if graded:
            columns[names.ACCURACY] = column(arm, "correct")
        if arm == "reference":
            # Its own KL is 0; its responses give an estimate of the reverse KL.
            reverse = mean_over_prompts(-ratio)
            results.report("KL(reference || policy)", arm, seed, reverse.value)
            ratio = torch.zeros_like(ratio)
        estimates = {check: mean_over_prompts(values) for check, values in columns.items()}
        recorder.with_density(arm, mean_over_prompts(ratio), estimates, gap=arm == "policy")
    return results
