"""A sweep of five tokens, made by hand."""

from __future__ import annotations

from typing import Any

import torch

from nabla_core.config import NablaConfig
from nabla_core.guides.base import Gradients
from nabla_core.models.forward import Likelihood
from nabla_core.models.readers import LMRead
from nabla_core.requests import Context, Response


def gradients(**config: Any) -> Gradients:
    """Five tokens swept from position 1 on; the LM prefers 11, 12, 13, 14 there."""
    likelihood = Likelihood(
        log_probability=torch.zeros(4),
        confidence=torch.tensor([0.5, 0.99, 0.9, 0.2]),
        entropy=torch.tensor([1.0, 0.1, 0.4, 2.0]),
        top=torch.tensor([11, 12, 13, 14]),
        hidden_gradient=None,
    )
    hidden = torch.arange(8.0).reshape(4, 2)
    return Gradients(
        context=Context("x", (1,), ((), ()), ((), ())),
        response=Response((0, 1, 2, 3, 4), "length"),
        config=NablaConfig(**config),
        lm=LMRead(1, hidden, likelihood, None),
    )
