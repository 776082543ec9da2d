"""KL to a reference, against the sum over all responses computed with transformers alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nabla_core.config import Sampling
from nabla_core.engines.base import Engines
from nabla_core.engines.divergence import DivergenceEngine, Law
from nabla_core.requests import Diverge, Divergence
from tests.core.engines.rollout_requests import context, language_model
from tests.core.guides.heads import engines_with, head_of, head_on
from tests.core.reference import rolled_out, serve
from tests.core.tiny import Family

PROMPT = (5, 7, 9)
LONGEST = 2


def tuned(weight: Tensor) -> None:
    """Make another model of one: a policy that was trained from it."""
    with torch.no_grad():
        weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(4))


def literal_law(logits: Tensor, sampling: Sampling) -> Tensor:
    """float64 `[V]`: min-p, softmax at the temperature, the smallest set that holds `top_p`."""
    unlikely = logits.double().softmax(-1)
    law = (logits.double() / sampling.temperature).softmax(-1)
    law[unlikely < sampling.min_p * unlikely.max()] = 0
    law = law / law.sum()
    kept, total = [], 0.0
    for token in law.argsort(descending=True).tolist():
        if total >= sampling.top_p:
            break
        kept.append(token)
        total += float(law[token])
    cut = torch.zeros_like(law)
    cut[kept] = law[kept]
    return cut / cut.sum()


def all_responses(tokens: int, stop: int) -> list[tuple[int, ...]]:
    ends = [(stop,)]
    return ends + [
        pair for pair in itertools.product(range(tokens), repeat=LONGEST) if pair[0] != stop
    ]


def laws_of(model: Any, n: int, sampling: Sampling | None) -> Callable[[tuple[int, ...]], Tensor]:
    """The law of the token behind a prefix, by one forward pass; without a `sampling` the model's
    own. `n`: ids that are tokens."""

    @cache
    def law(prefix: tuple[int, ...]) -> Tensor:
        with torch.no_grad():
            logits = model(torch.tensor([[*PROMPT, *prefix]])).logits[0, -1, :n]
        return literal_law(logits, sampling) if sampling else logits.double().softmax(-1)

    return law


def log_of(law: Callable[[tuple[int, ...]], Tensor], tokens: tuple[int, ...]) -> float:
    return sum(float(law(tokens[:i])[token].log()) for i, token in enumerate(tokens))


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0), Sampling(0.7, top_p=0.9), Sampling(1.0, min_p=0.4)]
)
def test_both_estimators_have_the_divergence_of_all_responses_as_their_mean(
    family: Family, sampling: Sampling
):
    reference, policy = language_model(family), language_model(family)
    tuned(policy.head.weight)
    (stop,) = reference.stop
    asked = [
        Diverge(context(PROMPT), tokens) for tokens in all_responses(reference.vocabulary, stop)
    ]
    engine = DivergenceEngine(reference, Law(lm=policy, sampling=sampling), 256, 1 << 16)
    found: list[Divergence] = serve(Engines(engine), asked)

    raw, other = family.raw("lm"), family.raw("lm")
    tuned(other.get_output_embeddings().weight)
    n = reference.vocabulary
    q_law, p_law = laws_of(other, n, sampling), laws_of(raw, n, None)
    exact = plain = blackwellised = squares = plain_squares = mass = 0.0
    for request, one in zip(asked, found, strict=True):
        assert one.policy is not None
        assert one.kl is not None
        assert one.kl >= 0
        q = 2.718281828459045**one.policy
        if q == 0:
            continue
        mass += q
        plain += q * (one.policy - one.reference)
        plain_squares += q * (one.policy - one.reference) ** 2
        blackwellised += q * one.kl
        squares += q * one.kl**2
        log_q, log_p = log_of(q_law, request.tokens), log_of(p_law, request.tokens)
        assert (one.policy, one.reference) == pytest.approx((log_q, log_p), abs=1e-4)
        exact += q * (log_q - log_p)
    assert mass == pytest.approx(1)
    assert exact > 0.1
    assert plain == pytest.approx(exact, abs=1e-4)
    assert blackwellised == pytest.approx(exact, abs=1e-4)
    # That is what it is for.
    assert squares - exact**2 < 0.7 * (plain_squares - exact**2)


def test_a_model_does_not_diverge_from_itself_and_without_a_law_there_is_its_likelihood(
    plain: Family,
):
    lm = language_model(plain)
    asked = [Diverge(context(PROMPT), tokens) for tokens in ((4, 6, 8), (8,))]
    own = serve(Engines(DivergenceEngine(lm, Law(lm=lm, sampling=Sampling(1.0)), 4, 999)), asked)
    assert [one.kl for one in own] == pytest.approx([0, 0], abs=1e-9)
    assert [one.policy for one in own] == pytest.approx([one.reference for one in own])
    alone = serve(Engines(DivergenceEngine(lm, None, 4, 999)), asked)
    assert [one.reference for one in alone] == pytest.approx([one.reference for one in own])
    assert {(one.policy, one.kl) for one in alone} == {(None, None)}


def test_a_guided_law_is_that_of_the_guided_rollouts(family: Family, tmp_path: Path):
    """A guide with a vocabulary and a template of its own, for `grouped`."""
    engines = engines_with(family, head_on(family, "judge", tmp_path / "head"))
    guide = head_of(engines)
    sampling = Sampling(0.8, beta=0.5)
    contexts, responses = rolled_out(engines, 3)
    asked = [Diverge(c, r.tokens) for c, r in zip(contexts, responses, strict=True)]
    law = Law(lm=guide.lm, sampling=sampling, guide=guide)
    found = serve(Engines(DivergenceEngine(guide.lm, law, 4, 9999)), asked)
    model, head = family.raw("lm"), guide.head
    for request, one in zip(asked, found, strict=True):
        log_q = kl = 0.0
        for n, token in enumerate(request.tokens):
            so_far = request.tokens[:n]
            with torch.no_grad():
                logits = model(torch.tensor([[*request.context.lm, *so_far]])).logits[0, -1]
                read = guide.reader.history(request.context, so_far)
                hidden = head.body(inputs_embeds=head.embed(torch.tensor([read])))
                advantages = guide.next_advantages(hidden.last_hidden_state[:, -1])[0]
            logits[guide.lm.no_token] = float("-inf")
            q = ((logits + advantages / 0.5).double() / 0.8).softmax(-1)
            log_q += float(q[token].log())
            kept = q > 0
            log_p = logits.double().log_softmax(-1)
            kl += float((q[kept] * (q[kept].log() - log_p[kept])).sum())
        assert (one.policy, one.kl) == pytest.approx((log_q, kl), abs=1e-3)


def test_a_greedy_policy_and_a_guided_one_without_its_guide_have_no_law(plain: Family):
    lm = language_model(plain)
    with pytest.raises(ValueError, match="greedy"):
        Law(lm=lm, sampling=Sampling(0))
    with pytest.raises(ValueError, match="guide"):
        Law(lm=lm, sampling=Sampling(1.0, beta=1.0))
