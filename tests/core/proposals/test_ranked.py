"""What ranked, second and random proposals are, and what no proposal may be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from nabla_core.config import NablaConfig, Ranked, Sampling
from nabla_core.draws import DrawKey
from nabla_core.errors import NonFiniteError
from nabla_core.requests import Propose, Sweep
from tests.core.reference import KEY, Literal, changes, guide_of, proposed, rolled_out, serve
from tests.core.tiny import Family, characters, greedy_search, one_hots, qwen2, reward_folder

# Ranked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ranked",
    [
        Ranked(),
        Ranked(beta=2.0, min_score=-4.0),
        Ranked(beta=None, min_score=-3.0),
        Ranked(min_score=0.0),
    ],
)
def test_ranked_proposals_are_the_best_pairs_of_all(family: Family, ranked: Ranked):
    config = NablaConfig(proposals="ranked", ranked=ranked, max_rollouts=10)
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 4)
    found = proposed(engines, contexts, responses, config, boundary=3, count=10)
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = list(response.tokens)
        g = literal.gradient(context, response.tokens, config.objective).double()
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(y, len(literal.ids))).double()
        weight = 1 / ranked.beta if ranked.beta else 0.0
        scores = {
            (i, y[i], b): float(weight * (g[i, y[i]] - g[i, b]) + log_p[i, b] - log_p[i, y[i]])
            for i in range(len(y))
            for b in range(literal.vocabulary)
            if b != y[i]
        }
        expected = sorted(
            (k for k in scores if scores[k] > ranked.min_score), key=lambda k: -scores[k]
        )
        assert changes(proposals) == expected[:10]
        for q in proposals:
            gain = float(g[q.position, q.from_token] - g[q.position, q.to_token])
            wanted = gain if ranked.beta else 0.0
            assert q.advantage == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_a_nucleus_keeps_proposals_to_likely_tokens(family: Family):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 3)
    whole = NablaConfig(proposals="ranked", ranked=Ranked(min_score=-100.0), max_rollouts=500)
    within = NablaConfig(
        proposals="ranked", ranked=Ranked(min_score=-100.0, nucleus=0.6), max_rollouts=500
    )
    every = proposed(engines, contexts, responses, whole)
    some = proposed(engines, contexts, responses, within)
    for context, response, all_pairs, kept in zip(contexts, responses, every, some, strict=True):
        with torch.no_grad():
            p = literal.log_p(context, one_hots(response.tokens, len(literal.ids))).exp()
        likely = set()
        for i, row in enumerate(p.tolist()):
            mass = 0.0
            for b in sorted(range(len(row)), key=lambda b, row=row: -row[b]):
                if mass >= 0.6:
                    break
                mass += row[b]
                likely.add((i, b))
        expected = [c for c in changes(all_pairs) if (c[0], c[2]) in likely]
        assert changes(kept) == expected
        assert 0 < len(expected) < len(all_pairs)


def test_tried_pairs_are_left_out_and_the_ranking_lasts(plain: Family):
    """A search of n rollouts that carries n - 1 tried pairs still gets n proposals."""
    config = NablaConfig(proposals="ranked", ranked=Ranked(min_score=-100.0), max_rollouts=4)
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    (best,) = serve(engines, [Propose(swept.gradients, 0, 8, KEY)])
    assert len(best) == 8
    tried = frozenset((p.position, p.to_token) for p in best[:4])
    (rest,) = serve(engines, [Propose(swept.gradients, 0, 4, KEY, tried)])
    assert rest == best[4:]


# Without a gradient ----------------------------------------------------------------------------


def test_the_second_choice_is_the_best_other_token(family: Family):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 4)
    config = greedy_search(proposals="second")
    found = proposed(engines, contexts, responses, config, boundary=1)
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = response.tokens
        with torch.no_grad():
            p = literal.log_p(context, one_hots(y, len(literal.ids))).exp()
        expected = []
        for i in range(1, len(y)):
            if p[i].max() <= 0.98:
                others = p[i].clone()
                others[y[i]] = -1
                expected.append((i, y[i], int(others.argmax())))
        assert changes(proposals) == expected


def test_random_flips_take_every_other_token_alike(plain: Family):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    config = greedy_search(proposals="random")
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    asked = [Propose(swept.gradients, 0, 3, DrawKey(n, "p", 0, "resample")) for n in range(800)]
    drawn = [p for proposals in serve(engines, asked) for p in proposals]
    assert len(drawn) == 2400
    assert all(p.from_token != p.to_token for p in drawn)
    counts = Counter((p.position, p.to_token) for p in drawn)
    # 23 other tokens at each of three positions.
    assert len(counts) == 69
    assert sum((c - 2400 / 69) ** 2 / (2400 / 69) for c in counts.values()) < 110


# What the guide cannot read -------------------------------------------------------------------


@pytest.mark.parametrize("proposals", ["left_to_right", "ranked", "second", "random"])
def test_tokens_the_guide_does_not_know_are_never_proposed(
    plain: Family, tmp_path: Path, proposals: str
):
    fewer = characters("0123456789+-*;=(),")  # without / . and :
    rm = reward_folder(tmp_path / "rm", qwen2(len(fewer), num_labels=1), fewer, seed=7)
    family = Family(plain.lm, rm, rm)
    engines = family.engines(coverage=0.8)
    unknown = set(plain.tokenizer("lm").convert_tokens_to_ids(["/", ".", ":"]))
    contexts, responses = rolled_out(engines, 8)
    chosen = [
        (c, r) for c, r in zip(contexts, responses, strict=True) if not unknown & set(r.tokens)
    ]
    assert chosen
    config = greedy_search(
        proposals=proposals,
        ranked=Ranked(min_score=-100.0),
        max_rollouts=100,
        resample=Sampling(3.0),
    )
    found = proposed(engines, [c for c, _ in chosen], [r for _, r in chosen], config)
    tokens = {p.to_token for proposals in found for p in proposals}
    assert len(tokens) > 3
    assert not tokens & unknown


def test_a_gradient_of_a_flip_that_is_not_finite_fails_its_prompt_alone(
    plain: Family, monkeypatch: pytest.MonkeyPatch
):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 4)
    config = greedy_search()
    requests = [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    swept = serve(engines, requests)
    healthy = serve(engines, [Propose(s.gradients, 0, 1000, KEY) for s in swept])
    flipped = list(swept[1].gradients.guide_states)[-1]
    assert flipped != responses[1].tokens
    guide = guide_of(engines)
    unpatched = guide.input_gradients

    def fragile(tasks: Any, *others: Any) -> Any:
        if any(task.tokens == flipped for task in tasks):
            raise NonFiniteError("a reward gradient is not finite")
        return unpatched(tasks, *others)

    monkeypatch.setattr(guide, "input_gradients", fragile)
    swept = serve(engines, requests)
    found = serve(engines, [Propose(s.gradients, 0, 1000, KEY) for s in swept])
    assert isinstance(found[1], NonFiniteError)
    assert [changes(found[n]) for n in (0, 2, 3)] == [changes(healthy[n]) for n in (0, 2, 3)]


@pytest.mark.parametrize("proposals", ["left_to_right", "ranked"])
def test_rows_that_are_not_finite_are_an_error_and_not_an_end_of_the_search(
    plain: Family, proposals: str
):
    """One broken row of the table spoils every comparison without any text that reads it."""
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    config = greedy_search(proposals=proposals)
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    guide_of(engines).reader.rm.table[2] = float("nan")
    (found,) = serve(engines, [Propose(swept.gradients, 0, 5, KEY)])
    assert isinstance(found, NonFiniteError)
