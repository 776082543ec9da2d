"""The LM's most probable tokens, against its own softmax."""

from __future__ import annotations

import pytest
import torch

from nabla_core.requests import Likeliest
from tests.core.reference import Literal, rolled_out, serve
from tests.core.tiny import Family, one_hots


@pytest.mark.parametrize("count", [2, 5, 1000])
def test_choices_are_the_lms_top_tokens_with_the_responses_own_first(family: Family, count: int):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 3)
    requests = [Likeliest(c, r, count) for c, r in zip(contexts, responses, strict=True)]
    for context, response, choices in zip(
        contexts, responses, serve(engines, requests), strict=True
    ):
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(response.tokens, len(literal.ids)))
        assert len(choices) == len(response.tokens)
        for i, choice in enumerate(choices):
            own = response.tokens[i]
            row = log_p[i, : literal.vocabulary].tolist()
            others = sorted((b for b in range(len(row)) if b != own), key=lambda b: -row[b])
            assert choice.tokens == (own, *others[: count - 1])
            expected = [row[b] for b in choice.tokens]
            assert choice.log_probabilities == pytest.approx(expected, abs=1e-4)
            assert choice.confidence == pytest.approx(
                torch.tensor(row).exp().max().item(), abs=1e-4
            )


@pytest.mark.parametrize("copied", [1, 3, 1000])
def test_tokens_of_the_prompt_follow_that_are_not_among_the_top_ones(family: Family, copied: int):
    engines = family.engines()
    contexts, responses = rolled_out(engines, 3)
    whole = [Likeliest(c, r, 1_000_000) for c, r in zip(contexts, responses, strict=True)]
    requests = [Likeliest(c, r, 4, copied) for c, r in zip(contexts, responses, strict=True)]
    for context, ranks, choices in zip(
        contexts, serve(engines, whole), serve(engines, requests), strict=True
    ):
        for ranked, choice in zip(ranks, choices, strict=True):
            asked = [b for b in ranked.tokens[4:] if b in context.lm][:copied]
            assert choice.tokens == (*ranked.tokens[:4], *asked)
            expected = dict(zip(ranked.tokens, ranked.log_probabilities, strict=True))
            assert choice.log_probabilities == pytest.approx([expected[b] for b in choice.tokens])
