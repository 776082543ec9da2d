"""Log-probabilities of the embedded LM."""

import pytest
import torch

from nabla_core.embedded import task
from pipeline.duality.language.embedded_models import EmbeddedModels, log_probability


@pytest.fixture(scope="module")
def models() -> EmbeddedModels:
    return EmbeddedModels(task.prompts(3, seed=1, split="validation"))


def test_log_probabilities_are_those_of_the_lm_and_add_up(models: EmbeddedModels):
    """Compared with a sum token by token, without the padding after the stop token."""
    generator = torch.Generator().manual_seed(0)
    drawn = models.sample(models.lm, 4, generator)
    prompt, response = models.ids[:1], drawn.responses[0, :1]
    total = 0.0
    for t, token in enumerate(response[0].tolist()):
        fed = torch.cat([prompt, response[:, :t]], 1)
        total += float(models.lm(fed).logits[0, -1].log_softmax(-1)[token])
        if token == 1:
            break
    assert float(log_probability(models.lm, prompt, response)) == pytest.approx(total, abs=1e-4)
    assert float(drawn.log_ref[0, 0]) == pytest.approx(total, abs=1e-4)
