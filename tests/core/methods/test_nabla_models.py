"""The loop with real models: stop tokens, length limits, numbers that are not finite."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nabla_core import NablaConfig, Prompt, Runtime, drive, nabla
from nabla_core.errors import NonFiniteError
from nabla_core.requests import (
    Score,
    Sweep,
)
from tests.core.tiny import Family, greedy_search, prompts


def test_a_revision_to_the_stop_token_generates_nothing_more(plain: Family):
    """The release went on generating."""
    config = greedy_search()
    ended = 0
    for trace in drive((nabla(p, config, max_tokens=12) for p in prompts(24)), plain.engines()):
        stops = [n for n, t in enumerate(trace.tokens) if t == 1]
        assert stops in ([], [len(trace.tokens) - 1])
        assert trace.finish_reason == ("stop" if stops else "length")
        last = len(trace.tokens) - 1
        if any(r.accepted and r.to_token == 1 and r.position == last for r in trace.revisions):
            ended += 1
    assert ended > 0


@pytest.mark.parametrize("proposals", ["left_to_right", "ranked", "second", "random"])
@pytest.mark.parametrize(("limit", "count"), [(1, 6), (2, 8), (4, 16)])
def test_revisions_at_the_length_limit_go_well(
    plain: Family, proposals: str, limit: int, count: int
):
    """The release crashed there. One prompt at a time, so that no batch covers an empty one."""
    engines = plain.engines()
    at_the_end = 0
    for prompt in prompts(count):
        config = greedy_search(proposals=proposals)
        (trace,) = drive([nabla(prompt, config, max_tokens=limit)], engines)
        assert len(trace.tokens) <= limit
        if any(r.position == limit - 1 and r.accepted for r in trace.revisions):
            at_the_end += 1
    assert at_the_end > 0


@pytest.mark.parametrize("role", ["judge", "guide"])
def test_a_number_that_is_not_finite_ends_its_own_prompt_alone(plain: Family, role: str):
    engines = plain.engines(Runtime(device="cpu", reuse=False))
    asked = [*prompts(5), Prompt.of("(1+1)", id="odd"), *prompts(9)[5:]]
    parenthesis = plain.tokenizer("lm").convert_tokens_to_ids("(")
    reader = {
        "judge": engines.serving(Score)._judge,  # type: ignore[attr-defined]
        "guide": engines.serving(Sweep)._guide.reader,  # type: ignore[attr-defined]
    }[role]
    forward = reader.rm.body.forward

    def poisoned(*, inputs_embeds: Any, **given: Any) -> Any:
        output = forward(inputs_embeds=inputs_embeds, **given)
        odd = (inputs_embeds[:, 0] == reader.rm.table[parenthesis]).all(-1)
        output.last_hidden_state = torch.where(odd[:, None, None], torch.nan, output[0])
        return output

    reader.rm.body.forward = poisoned
    failures: dict[int, Exception] = {}
    config = greedy_search(proposals="second", max_rollouts=2)
    config = config if role == "judge" else greedy_search(max_rollouts=2)
    flows = (nabla(p, config, max_tokens=8) for p in asked)
    done = list(drive(flows, engines, failed=lambda i, e: failures.update({i: e})))
    assert list(failures) == [5], failures
    assert isinstance(failures[5], NonFiniteError)
    assert sorted(t.prompt_id for t in done) == sorted(p.id for p in prompts(9))


def test_a_flow_without_room_for_a_token_fails_and_does_not_hang(plain: Family):
    with pytest.raises(Exception, match="no room for a response"):
        list(drive([nabla(prompts(1)[0], NablaConfig(), max_tokens=0)], plain.engines()))


@pytest.mark.parametrize("proposals", ["left_to_right", "ranked"])
def test_what_a_search_had_spent_is_what_a_shorter_one_costs(plain: Family, proposals: str):
    """So one run gives results and costs at every number of rollouts below its own."""
    engines = plain.engines()
    shorter = 0
    for prompt in prompts(6):
        traces = [
            next(drive([nabla(prompt, config, max_tokens=8)], engines))
            for n in range(1, 5)
            for config in [greedy_search(proposals=proposals, max_rollouts=n)]
        ]
        whole = traces[-1]
        for n, trace in enumerate(traces, 1):
            assert trace.revisions == whole.revisions[:n]
            if len(trace.revisions) == n:
                assert trace.revisions[-1].spent is not None
                spent = replace(whole.revisions[n - 1].spent, seconds=0.0)
                assert replace(trace.cost, seconds=0.0) == spent
                shorter += 1
    assert shorter > 12
