"""The loss and its gradients, word for word, and a way to ask engines without a scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective, Sampling
from nabla_core.draws import DrawKey
from nabla_core.engines.base import Engines
from nabla_core.engines.sweeps import SweepEngine
from nabla_core.guides.base import Gradients
from nabla_core.guides.gradient import GradientGuide
from nabla_core.proposals.positions import rows_at
from nabla_core.requests import Context, Proposal, Propose, Render, Response, Rollout, Sweep
from tests.core.tiny import Family, one_hots, prompts

KEY = DrawKey(0, "p", 0, "resample")


def serve(engines: Engines, requests: Sequence[Any]) -> list[Any]:
    """Values in the order of the requests, all in one batch; exceptions as they are."""
    engine = engines.serving(type(requests[0]))
    for ticket, request in enumerate(requests):
        engine.submit(ticket, request)
    found: dict[int, Any] = {}
    while engine.waiting:
        for ticket, result in engine.step():
            found[ticket] = result if isinstance(result, Exception) else result.value
    return [found[n] for n in range(len(requests))]


def rolled_out(engines: Engines, count: int = 6) -> tuple[list[Context], list[Response]]:
    """Sampled responses of several lengths, with caches where engines keep them."""
    contexts = serve(engines, [Render(p) for p in prompts(count)])
    responses = serve(
        engines,
        [
            Rollout(
                c, (), 5 + n, Sampling(1.0), DrawKey(0, str(n), 0, "rollout"), return_cache=True
            )
            for n, c in enumerate(contexts)
        ],
    )
    return contexts, responses


def guide_of(engines: Engines) -> GradientGuide:
    engine = engines.serving(Sweep)
    assert isinstance(engine, SweepEngine)
    assert isinstance(engine._guide, GradientGuide)
    return engine._guide


def product_rows(engines: Engines, gradients: Gradients, tokens: tuple[int, ...]) -> Tensor:
    """The guide's rows `[T-start, V]` at every swept position."""
    guide = guide_of(engines)
    logits = guide.lm.logits(gradients.lm.hidden.clone())
    state = gradients.guide_states[tokens]
    places = range(gradients.start, len(tokens))
    return rows_at(guide, [(gradients, state, i) for i in places], logits)


def close(found: Tensor, expected: Tensor) -> None:
    """Equal up to fp32 noise, which grows with the largest entries."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5 * scale)


class Literal:
    """The loss of one-hot rows over the LM's vocabulary, models as transformers loads them."""

    def __init__(self, family: Family, engines: Engines) -> None:
        self.lm = family.raw("lm")
        self.guide = family.raw("guide")
        guide = guide_of(engines)
        self.vocabulary = guide.lm.vocabulary
        self.ids = guide.reader.vocabulary.ids.clamp(min=0)
        self.body_tokens = guide.reader.body_tokens

    def log_p(self, context: Context, hot: Tensor) -> Tensor:
        """log p `[T, V]` of every token at every position; padding rows are no tokens."""
        table = self.lm.get_input_embeddings().weight
        inputs = torch.cat([table[list(context.lm)], hot @ table])
        logits = self.lm(inputs_embeds=inputs[None]).logits[0, len(context.lm) - 1 : -1]
        logits = logits.clone()
        logits[:, self.vocabulary :] = -1e30
        return logits.log_softmax(-1)

    def reward(self, context: Context, tokens: tuple[int, ...], hot: Tensor) -> Tensor:
        table = self.guide.get_input_embeddings().weight
        before, after = context.guide
        read = self.body_tokens(tokens)
        inputs = torch.cat(
            [table[list(before)], hot[: len(read)] @ table[self.ids], table[list(after)]]
        )
        hidden = self.guide.model(inputs_embeds=inputs[None]).last_hidden_state
        # A classifier reads its reward at the last token that is not pad.
        ids = torch.tensor([*before, *self.ids[list(read)].tolist(), *after])
        end = int((ids != self.guide.config.pad_token_id).nonzero().max())
        return self.guide.score(hidden[0, end])[0]

    def gradient(self, context: Context, tokens: tuple[int, ...], objective: Objective) -> Tensor:
        hot = one_hots(tokens, len(self.ids))
        loss = -objective.reward_coeff * self.reward(context, tokens, hot)
        loss = loss - objective.nll_coeff * (hot * self.log_p(context, hot)).sum()
        (gradient,) = torch.autograd.grad(loss, hot)
        return gradient


def proposed(
    engines: Engines,
    contexts: list[Context],
    responses: list[Response],
    config: NablaConfig,
    *,
    boundary: int = 0,
    count: int = 1000,
) -> list[list[Proposal]]:
    """What sweeps of the responses propose, each at most `count` proposals."""
    swept = serve(
        engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    )
    return serve(engines, [Propose(s.gradients, boundary, count, KEY) for s in swept])


def changes(proposals: list[Proposal]) -> list[tuple[int, int, int]]:
    """Position, token taken, token proposed."""
    return [(p.position, p.from_token, p.to_token) for p in proposals]
