"""Gradient-guided reward optimisation against a literal version, and nudges against the models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nabla_core import Decoding, drive, flow
from nabla_core.config import GGRO
from nabla_core.methods.ggro import SWEEP
from nabla_core.requests import Nudge, Sweep
from tests.core.methods.toy import (
    Tokens,
    advantage,
    engines,
    entropy,
    generate,
    likeliest,
    prompt,
    reward,
)
from tests.core.reference import product_rows, rolled_out, serve
from tests.core.tiny import Family


def literal(config: GGRO, y: Tokens, limit: int) -> tuple[Tokens, list[Tokens]]:
    """The answer, and the candidates in order."""
    tried: list[Tokens] = []

    def uncertain(y: Tokens, first: int) -> int | None:
        later = range(first, len(y))
        return next((i for i in later if entropy(y[:i]) >= config.entropy_threshold), None)

    def text(y: Tokens, i: int) -> Tokens:
        end = uncertain(y, i + config.min_segment)
        return y if config.judged == "greedy" else y[:end]

    i = uncertain(y, 0)
    while i is not None:
        best = current = y
        seen = {y[i]}
        for _ in range(config.refinements - 1):
            options = likeliest(current[:i], config.top_k, current[i])
            read = text(current, i)
            nudge = max(options, key=lambda token: advantage(read, i, token))
            if nudge in seen:
                break
            seen.add(nudge)
            current = generate((*current[:i], nudge), limit)
            tried.append(current)
            if reward(text(current, i)) > reward(text(best, i)):
                best = current
        y = best
        end = uncertain(y, i + config.min_segment)
        i = end
    return y, tried


CONFIGS = [
    GGRO(min_segment=1, refinements=4, top_k=4),
    GGRO(min_segment=3, refinements=3, top_k=2),
    GGRO(min_segment=2, refinements=4, top_k=4, judged="partial"),
]


@pytest.mark.parametrize("judges", [True, False])
@pytest.mark.parametrize("settings", CONFIGS)
def test_the_answer_is_that_of_the_literal_search(settings: GGRO, judges: bool):
    answers, changed = set(), 0
    for number in range(60):
        limit = 3 + number % 10
        greedy = generate((), limit)
        config = replace(settings, entropy_threshold=0.2 * (number // 10))
        decoding = Decoding(method="ggro", max_tokens=limit, ggro=config)
        (trace,) = drive([flow(prompt(0), decoding)], engines(judges=judges))
        answer, tried = literal(config, greedy, limit)
        answers.add(answer)
        changed += answer != greedy
        assert (trace.base_tokens, trace.base_reward) == (greedy, reward(greedy))
        assert (trace.tokens, trace.reward) == (answer, reward(answer))
        if config.judged == "partial":
            assert not trace.revisions
            continue
        response = greedy
        for revision, candidate in zip(trace.revisions, tried, strict=True):
            assert (*response[: revision.position], *revision.tail_token_ids) == candidate
            response = candidate if revision.accepted else response
        assert response == answer
        scores = 0 if judges else 2 * (1 + len(tried))
        swept = 4 * (1 + len(tried))
        assert trace.cost.paper_calls == trace.cost.generated_tokens + swept + scores
    assert len(answers) > 5
    assert changed > 10


def test_nudges_are_the_likeliest_tokens_in_the_order_of_the_gradient(family: Family):
    made = family.engines()
    contexts, responses = rolled_out(made, 3)
    asked = [Sweep(c, r, 0, SWEEP) for c, r in zip(contexts, responses, strict=True)]
    for context, response, swept in zip(contexts, responses, serve(made, asked), strict=True):
        ids = torch.tensor([[*context.lm, *response.tokens]])
        with torch.no_grad():
            logits = family.raw("lm")(ids).logits[0, len(context.lm) - 1 : -1]
        lm = made.serving(Sweep)._guide.lm  # type: ignore[attr-defined]
        logits[:, lm.no_token] = float("-inf")
        laws = logits.softmax(-1)
        entropies = torch.special.entr(laws).sum(-1)
        rows = product_rows(made, swept.gradients, response.tokens)
        threshold = float(entropies.median())
        for i, token in enumerate(response.tokens):
            (found,) = serve(made, [Nudge(swept.gradients, threshold - 1e-4, i, 5)])
            uncertain = (entropies >= threshold - 1e-4).nonzero().squeeze(-1)
            assert found.positions == tuple(uncertain.tolist())
            others = laws[i].clone()
            others[token] = 0.0
            gain = rows[i][token] - rows[i]
            likely = others.topk(5).indices.tolist()
            best = sorted(likely, key=lambda t: -float(gain[t]))
            assert found.tokens == tuple(best)
            assert found.advantages == pytest.approx([float(gain[t]) for t in best], rel=1e-4)
