"""The models of part checkpoints: where they are."""

from __future__ import annotations

from nabla_core.embedded.weights import model_location
from pipeline.duality.checkpoints.config import CheckpointsConfig


def model_folders(settings: CheckpointsConfig) -> tuple[str, str, str]:
    """The folders or hub ids of reference, policy and judge."""
    return (
        model_location(settings.reference.path, "lm"),
        model_location(settings.policy.path, "lm"),
        model_location(settings.reward.required_judge, "judge"),
    )
