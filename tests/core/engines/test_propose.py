"""What holds for every way of proposing: unknown tokens, and rows that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nabla_core.config import Ranked, Sampling
from nabla_core.errors import NonFiniteError
from nabla_core.requests import Propose, Sweep
from tests.core.reference import KEY, changes, guide_of, proposed, rolled_out, serve
from tests.core.tiny import Family, characters, greedy_search, qwen2, reward_folder


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
