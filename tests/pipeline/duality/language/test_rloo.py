"""RLOO on the embedded LM."""

import torch

from nabla_core.embedded import task
from pipeline.duality.language import checks as language
from pipeline.duality.language.config import LanguageConfig, RlooConfig
from pipeline.duality.language.embedded_models import EmbeddedModels


def test_training_raises_what_it_ascends():
    """Measured on other prompts than it was trained on."""
    many = EmbeddedModels(task.prompts(40, seed=0, split="test"))
    settings = LanguageConfig(
        rloo=RlooConfig(steps=8, prompts_per_step=80, group_size=4, learning_rate=5e-4)
    )
    policy = many.policy(language.train(settings.rloo, 1.0, 0))
    before = many.sample(many.lm, 20, torch.Generator().manual_seed(1))
    after = many.sample(policy, 20, torch.Generator().manual_seed(1))
    assert after.log_q is not None
    gained = after.reward - 1.0 * (after.log_q - after.log_ref)
    assert float(gained.mean()) > float(before.reward.mean()) + 0.1
    assert float((after.log_q - after.log_ref).mean()) > 0
