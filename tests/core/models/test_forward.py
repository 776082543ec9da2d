"""Forward passes: what is fed behind a cache, and likelihoods with their gradients."""

from __future__ import annotations

import pytest
import torch

from nabla_core.models.forward import Reading, likelihood, read
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel, load_language_model
from tests.core.tiny import Family


@pytest.fixture
def lm(plain: Family) -> LanguageModel:
    return load_language_model(
        str(plain.lm), revision=None, device=torch.device("cpu"), dtype=torch.float32
    )


def test_a_reading_feeds_at_least_its_last_token():
    cache = PrefixCache([torch.zeros(1, 1, 3, 1)], (5, 6, 7))
    assert (Reading((5, 6, 7), cache).cached, Reading((5, 6, 7), cache).fed) == (2, 1)
    assert (Reading((5, 6, 7, 8), cache).cached, Reading((5, 9), cache).cached) == (3, 1)
    assert Reading((9, 6), cache).cache is None


@torch.no_grad()
def test_what_follows_a_cache_reads_as_without_one(lm: LanguageModel):
    tokens = (5, 6, 7, 8, 9)
    whole = read(lm, [Reading(tokens)], gradient=False, return_cache=True)
    cache = whole.prefix_cache(0, 3)
    readings = [Reading(tokens, cache), Reading((10, 11))]
    part = read(lm, readings, gradient=False, return_cache=False)
    torch.testing.assert_close(part.hidden[0], whole.hidden[0, 3:], rtol=0, atol=1e-5)
    alone = read(lm, [Reading((10, 11))], gradient=False, return_cache=False)
    torch.testing.assert_close(part.hidden[1], alone.hidden[0], rtol=0, atol=1e-5)


def test_the_gradient_of_a_likelihood_is_autograds(lm: LanguageModel):
    hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tokens = torch.tensor([3, 7, 7, 1])
    scored = likelihood(lm, hidden.detach(), tokens, gradient=True)
    log_p = lm.logits(hidden).log_softmax(-1).gather(-1, tokens[:, None])
    (expected,) = torch.autograd.grad(log_p.sum(), hidden)
    assert scored.hidden_gradient is not None
    torch.testing.assert_close(scored.hidden_gradient, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scored.log_probability, log_p.detach().squeeze(-1))
    assert likelihood(lm, hidden.detach(), tokens, gradient=False).hidden_gradient is None
