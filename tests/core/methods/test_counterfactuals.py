"""What another token would have come to, held to rollouts and scores asked for one by one."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from nabla_core import NablaConfig, Prompt, Ranked, Runtime, Sampling, drive
from nabla_core.draws import DrawKey, uniform
from nabla_core.engines.base import Engines
from nabla_core.engines.scripted import scripted
from nabla_core.errors import ContextError, PromptError
from nabla_core.methods.counterfactuals import Explore, Explored, explore
from nabla_core.requests import Likeliest, Propose, Render, Response, Rollout, Score, Sweep
from tests.core.reference import Literal, rolled_out, serve
from tests.core.tiny import Family, one_hots, prompts

TRY = Explore(temperatures=(0.0, 1.0), positions=3, floor=0.05, alternatives=5)


def ungraded(prompt: Prompt, text: str) -> None:
    return None


def explored(engines: Engines, config: Explore = TRY, **changes: Any) -> list[Explored]:
    flows = [
        explore(replace(p, sample=s), config, ungraded, max_tokens=9, **changes)
        for p in prompts(4)
        for s in range(len(config.temperatures))
    ]
    return sorted(drive(flows, engines), key=lambda e: (e.prompt_id, e.sample))


def test_every_score_is_that_of_the_tail_behind_the_token(family: Family):
    engines = family.engines()
    greedy = 0
    for made in explored(engines):
        (prompt,) = [p for p in prompts(4) if p.id == made.prompt_id]
        (context,) = serve(engines, [Render(prompt)])
        assert made.prompt_tokens == context.lm
        (own,) = serve(engines, [Score(context, made.tokens)])
        assert made.score == pytest.approx(own.reward, abs=1e-4)
        assert len(made.places) == min(3, len(made.tokens))
        for place in made.places:
            assert place.tokens[0] == made.tokens[place.position]
            assert len(set(place.tokens)) == len(place.tokens) == 5
            prefixes = [(*made.tokens[: place.position], token) for token in place.tokens]
            key = DrawKey(0, "any", 0, "greedy draws nothing")
            tails = serve(engines, [Rollout(context, p, 9, Sampling(0), key) for p in prefixes])
            scores = serve(engines, [Score(context, t.tokens) for t in tails])
            assert place.scores == pytest.approx([s.reward for s in scores], abs=1e-4)
            if made.sample == 0:
                greedy += 1
                assert place.scores[0] == pytest.approx(made.score, abs=1e-4)
    assert greedy >= 8


def test_choices_are_the_lms_likeliest_with_the_token_taken_in_front(family: Family):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 3)
    asked = [Likeliest(c, r, 4) for c, r in zip(contexts, responses, strict=True)]
    for context, response, found in zip(contexts, responses, serve(engines, asked), strict=True):
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(response.tokens, len(literal.ids)))
        for i, (y, choice) in enumerate(zip(response.tokens, found, strict=True)):
            order = [b for b in log_p[i].argsort(descending=True).tolist() if b != y]
            known = [b for b in order if b < literal.vocabulary][:3]
            assert choice.tokens == (y, *known)
            expected = [float(log_p[i, b]) for b in choice.tokens]
            assert choice.log_probabilities == pytest.approx(expected, abs=1e-4)
            assert choice.confidence == pytest.approx(float(log_p[i].exp().max()), abs=1e-4)


def test_what_is_drawn_depends_on_nothing_around_it(plain: Family):
    config = replace(TRY, tails=2, tail=Sampling(1.0))
    reference = explored(plain.engines(), config)

    def drawn(made: list[Explored]) -> list[Any]:
        return [(e.tokens, [(p.position, p.tokens) for p in e.places]) for e in made]

    alone = explored(plain.engines(Runtime(device="cpu", max_batch=1, reuse=False)), config)
    assert drawn(alone) == drawn(reference)
    for a, b in zip(alone, reference, strict=True):
        for x, y in zip(a.places, b.places, strict=True):
            assert x.scores == pytest.approx(y.scores, abs=1e-3)
    other = explored(plain.engines(), config, seed=1)
    assert drawn(other) != drawn(reference)


def test_each_tail_has_its_score_and_a_token_their_mean(plain: Family):
    engines = plain.engines()
    config = replace(TRY, temperatures=(0.0,), tails=3, tail=Sampling(1.0))
    differ = 0
    for made in explored(engines, config):
        (prompt,) = [p for p in prompts(4) if p.id == made.prompt_id]
        (context,) = serve(engines, [Render(prompt)])
        for place in made.places:
            for token, score, scores in zip(
                place.tokens, place.scores, place.tail_scores, strict=True
            ):
                prefix = (*made.tokens[: place.position], token)
                keys = [
                    DrawKey(0, made.prompt_id, 0, f"explore tail {place.position} {token} {n}")
                    for n in range(3)
                ]
                asked = [Rollout(context, prefix, 9, config.tail, key) for key in keys]
                tails = serve(engines, asked)
                judged = serve(engines, [Score(context, t.tokens) for t in tails])
                assert scores == pytest.approx([j.reward for j in judged], abs=1e-3)
                assert score == pytest.approx(sum(scores) / 3)
                differ += len(set(scores)) > 1
    assert differ > 10


def test_costs_are_those_of_response_choices_tails_and_scores():
    (made,) = drive([explore(Prompt.of("q", id="q"), TRY, ungraded)], scripted())
    tails = 3 * 5
    assert made.cost.rollouts == 1 + tails
    assert made.cost.rm_forward == 1 + tails
    assert made.cost.lm_backward == made.cost.rm_backward == 0


def test_confident_positions_are_drawn_by_the_floor_alone():
    """The scripted LM is half sure everywhere: every position has the same chance."""
    config = replace(TRY, temperatures=(0.0,), positions=2)
    flows = [explore(Prompt.of("q", id=str(n)), config, ungraded) for n in range(200)]
    count = Counter(p.position for e in drive(flows, scripted()) for p in e.places)
    assert set(count) == set(range(9))
    assert max(count.values()) < 3 * min(count.values())


def test_positions_are_drawn_by_what_the_guide_would_change(plain: Family):
    """Weight of a position: the logistic of its best replacement's score, plus the floor."""
    config = replace(TRY, choose="guide", positions=2, floor=0.01)
    engines = plain.engines()
    differ = 0
    for made in explored(engines, config):
        (prompt,) = [p for p in prompts(4) if p.id == made.prompt_id]
        (context,) = serve(engines, [Render(prompt)])
        search = NablaConfig(
            proposals="ranked", ranked=Ranked(min_score=-math.inf), max_rollouts=500
        )
        response = Response(made.tokens, made.finish_reason)
        (swept,) = serve(engines, [Sweep(context, response, 0, search)])
        key = DrawKey(0, made.prompt_id, made.sample, "explore positions")
        (found,) = serve(engines, [Propose(swept.gradients, 0, 1000, key)])
        best: dict[int, float] = {}
        for proposal in found:
            best[proposal.position] = max(best.get(proposal.position, -99.0), proposal.score)
        assert len(best) == len(made.tokens)
        turn = {
            i: uniform(key, i) ** (1 / (1 / (1 + math.exp(-s)) + 0.01)) for i, s in best.items()
        }
        expected = sorted(sorted(turn, key=lambda i: -turn[i])[:2])
        assert [place.position for place in made.places] == expected
        differ += expected != sorted(sorted(best, key=lambda i: -uniform(key, i))[:2])
    assert differ > 0


def test_a_verifier_scores_by_right_and_wrong():
    config = replace(TRY, scorer="verifier", tails=3, tail=Sampling(1.0))

    def even(prompt: Prompt, text: str) -> bool:
        return int(text[-1]) % 2 == 0

    (made,) = drive([explore(Prompt.of("q", id="q"), config, even)], scripted())
    assert made.score in (0.0, 1.0)
    thirds = {round(3 * s) / 3 for p in made.places for s in p.scores}
    assert all(min(abs(s - t) for t in thirds) < 1e-9 for p in made.places for s in p.scores)
    with pytest.raises(PromptError, match="prompt q has no expected answer"):
        list(drive([explore(Prompt.of("q", id="q"), config, ungraded)], scripted()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alternatives": 1}, "alternatives must be at least 2"),
        ({"tails": 2}, "the same tail again"),
        ({"floor": 0.0}, "floor must be above 0"),
        ({"temperatures": ()}, "temperatures must not be empty"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Explore(**changes)


def test_what_the_judge_cannot_read_costs_its_token_and_no_other(monkeypatch: pytest.MonkeyPatch):
    """Tails behind one token are unreadable, then all behind the token taken at a position."""
    ask = [Prompt.of("q", id="q")]
    (whole,) = drive([explore(p, TRY, ungraded) for p in ask], scripted())
    first, second = whole.places[:2]
    engines = scripted()
    scorer: Any = engines.serving(Score)
    answer = scorer.answer
    lost = [
        (*whole.tokens[: first.position], first.tokens[1]),
        (*whole.tokens[: second.position], second.tokens[0]),
    ]

    def unreadable(request: Any) -> bool:
        if not isinstance(request, Score):
            return False
        own = request.tokens == whole.tokens and request.return_cache
        return not own and any(request.tokens[: len(prefix)] == prefix for prefix in lost)

    def partly(requests: Any) -> Any:
        found = zip(requests, answer(requests), strict=True)
        return [ContextError("65 tokens") if unreadable(r) else result for r, result in found]

    monkeypatch.setattr(scorer, "answer", partly)
    (made,) = drive([explore(p, TRY, ungraded) for p in ask], engines)
    left = [place for place in made.places if place.position == first.position]
    # The token taken at `second` is in every tail behind a later position, and in its own.
    assert [p.position for p in made.places] == [first.position]
    kept = [n for n in range(len(first.tokens)) if n != 1]
    assert left[0].tokens == tuple(first.tokens[n] for n in kept)
    assert left[0].scores == tuple(first.scores[n] for n in kept)
    assert left[0].tail_scores == tuple(first.tail_scores[n] for n in kept)
    assert left[0].log_probabilities == tuple(first.log_probabilities[n] for n in kept)
