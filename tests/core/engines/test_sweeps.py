"""Sweeps as the engine serves them, against the literal loss through one-hots."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nabla_core.config import NablaConfig, Objective, Ranked
from nabla_core.engines.base import Engines
from nabla_core.errors import NonFiniteError
from nabla_core.model_config import Runtime
from nabla_core.requests import Response, Score, Sweep, Swept
from tests.core.reference import Literal, close, guide_of, product_rows, rolled_out, serve
from tests.core.tiny import Family, one_hots


def test_checkpointed_sweeps_hold_less_and_count_the_second_forward(family: Family):
    """The graph of a sweep holds the inputs of layers alone, and no module is left training."""
    held, flops = {}, {}
    for checkpoint in (False, True):
        engines = family.engines(
            Runtime(device="cpu", reuse=False, gradient_checkpointing=checkpoint)
        )
        (context,), (response,) = rolled_out(engines, 1)
        saved: list[int] = []

        def note(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.nbytes)
            return tensor

        engine = engines.serving(Sweep)
        engine.submit(0, Sweep(context, response, 0, NablaConfig()))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            ((_, reply),) = engine.step()
        assert not isinstance(reply, Exception)
        held[checkpoint], flops[checkpoint] = sum(saved), reply.cost.flops
        assert not any(m.training for m in engine._guide.lm.body.modules())
    assert held[True] < held[False] / 3
    assert flops[True] > flops[False]


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("nll", [0.0, 0.5])
def test_a_suffix_sweep_equals_the_full_one(family: Family, nll: float, reuse: bool):
    engines = family.engines(Runtime(device="cpu", reuse=reuse))
    config = NablaConfig(objective=Objective(nll_coeff=nll))
    contexts, responses = rolled_out(engines)
    full = serve(
        engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    )
    boundaries = [min(n, len(r.tokens) - 1) for n, r in enumerate(responses)]
    suffix = serve(
        engines,
        [
            Sweep(c, r, b, config, swept.gradients)
            for c, r, b, swept in zip(contexts, responses, boundaries, full, strict=True)
        ],
    )
    for response, boundary, a, b in zip(responses, boundaries, full, suffix, strict=True):
        assert b.gradients.start == boundary
        close(
            product_rows(engines, b.gradients, response.tokens),
            product_rows(engines, a.gradients, response.tokens)[boundary:],
        )
        for name in ("confidence", "entropy", "top", "log_probability"):
            torch.testing.assert_close(
                getattr(b.gradients.lm.likelihood, name),
                getattr(a.gradients.lm.likelihood, name)[boundary:],
                rtol=1e-4,
                atol=1e-5,
            )


def test_a_suffix_sweep_behind_another_response_feeds_the_suffix_alone(plain: Family):
    """The guide continues from the cache of the sweep before, up to the boundary."""
    engines = plain.engines()
    engine = engines.serving(Sweep)
    (context,), (response,) = rolled_out(engines, 1)
    config = NablaConfig()
    (first,) = serve(engines, [Sweep(context, response, 0, config)])
    revised = Response((*response.tokens[:3], 9, 9, 9, 9), "length", response.cache)
    engine.submit(0, Sweep(context, revised, 3, config, first.gradients))
    ((_, reply),) = engine.step()
    assert not isinstance(reply, Exception)
    # The LM is fed from the token before the boundary and never the last one, both ways.
    assert reply.cost.token_passes == 2 * 4 + 2 * 4
    (whole,) = serve(engines, [Sweep(context, revised, 0, config)])
    close(
        product_rows(engines, reply.value.gradients, revised.tokens),
        product_rows(engines, whole.gradients, revised.tokens)[3:],
    )


@pytest.mark.parametrize("uses_guide", [True, False])
@pytest.mark.parametrize("beside", [0, 1])
def test_a_sweep_from_the_very_end_finds_nothing_and_does_not_fail(
    plain: Family, uses_guide: bool, beside: int
):
    """What follows an accepted revision of the last token."""
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 2)
    config = NablaConfig() if uses_guide else NablaConfig(proposals="second")
    requests = [Sweep(contexts[0], responses[0], len(responses[0].tokens), config)]
    requests += [Sweep(contexts[1], responses[1], 0, config)] * beside
    swept = serve(engines, requests)[0]
    assert isinstance(swept, Swept)
    assert swept.gradients.lm.likelihood.log_probability.tolist() == []


def test_likelihood_confidence_and_entropy_are_the_lms(family: Family):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines)
    for config in (NablaConfig(), NablaConfig(proposals="ranked", ranked=Ranked(beta=None))):
        sweeps = serve(
            engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
        )
        for context, response, swept in zip(contexts, responses, sweeps, strict=True):
            with torch.no_grad():
                log_p = literal.log_p(context, one_hots(response.tokens, len(literal.ids)))
            p = log_p.exp()
            chosen = [float(log_p[i, t]) for i, t in enumerate(response.tokens)]
            likelihood = swept.gradients.lm.likelihood
            torch.testing.assert_close(likelihood.log_probability, torch.tensor(chosen))
            torch.testing.assert_close(likelihood.confidence, p.max(-1).values)
            entropy = -(p * p.clamp(min=1e-30).log()).sum(-1)
            torch.testing.assert_close(likelihood.entropy, entropy)
            assert likelihood.top.tolist() == p.argmax(-1).tolist()


@pytest.mark.parametrize("two", [True, False])
def test_a_sweep_judges_where_guide_and_judge_are_one(plain: Family, two: bool):
    engines = plain.engines(two=two)
    contexts, responses = rolled_out(engines)
    sweeps = serve(
        engines,
        [Sweep(c, r, 0, NablaConfig()) for c, r in zip(contexts, responses, strict=True)],
    )
    scores = serve(engines, [Score(c, r.tokens) for c, r in zip(contexts, responses, strict=True)])
    if two:
        assert all(s.judged is None for s in sweeps)
    else:
        assert [s.judged.reward for s in sweeps] == pytest.approx(
            [s.reward for s in scores], abs=1e-5
        )
    # Without a gradient no reward model reads anything.
    null = NablaConfig(proposals="second")
    sweeps = serve(engines, [Sweep(contexts[0], responses[0], 0, null)])
    assert sweeps[0].judged is None


def cost_of(engines: Engines, request: Any) -> Any:
    engine = engines.serving(type(request))
    engine.submit(0, request)
    ((_, reply),) = engine.step()
    return reply.cost


def test_costs_count_every_pass(plain: Family):
    engines = plain.engines(Runtime(device="cpu", reuse=False))
    (context,), (response,) = rolled_out(engines, 1)
    x, t = len(context.lm), len(response.tokens)
    cost = cost_of(engines, Sweep(context, response, 0, NablaConfig()))
    passes = (cost.lm_forward, cost.lm_backward, cost.rm_forward, cost.rm_backward)
    assert passes == (1, 1, 1, 1)
    assert cost.paper_calls == 4
    assert cost.token_passes == 2 * (x + t - 1) + 2 * (x + t)
    free = Objective(nll_coeff=0)
    cost = cost_of(engines, Sweep(context, response, 0, NablaConfig(objective=free)))
    assert (cost.lm_forward, cost.lm_backward, cost.paper_calls) == (1, 0, 4)
    assert cost.token_passes == (x + t - 1) + 2 * (x + t)
    cost = cost_of(engines, Sweep(context, response, 0, NablaConfig(proposals="random")))
    assert (cost.lm_forward, cost.rm_forward, cost.paper_calls) == (1, 0, 1)
    cost = cost_of(engines, Score(context, response.tokens, paper_calls=2))
    assert (cost.rm_forward, cost.rm_backward, cost.paper_calls) == (1, 0, 2)
    assert cost.token_passes == x + t


def test_numbers_that_are_not_finite_fail_their_own_request(plain: Family):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 3)
    guide = guide_of(engines)
    seen = {t for c in contexts for t in c.lm} | {t for r in responses for t in r.tokens}
    bad = max(set(range(24)) - seen)
    poisoned = Response((5, bad, 5, 1), "stop")
    guide.reader.rm.table[bad] = float("nan")
    requests = [Sweep(c, r, 0, NablaConfig()) for c, r in zip(contexts, responses, strict=True)]
    requests.insert(2, Sweep(contexts[0], poisoned, 0, NablaConfig()))
    found = serve(engines, requests)
    assert isinstance(found[2], NonFiniteError)
    assert all(isinstance(f, Swept) for n, f in enumerate(found) if n != 2)
