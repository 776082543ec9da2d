"""What heads and value heads have in common as guides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nabla_core import DTO, drive, nabla
from nabla_core.errors import ModelError
from nabla_core.requests import Sweep
from tests.core.guides.heads import RANKED, engines_with, head_on, value_head_on
from tests.core.reference import rolled_out, serve
from tests.core.tiny import Family, decisions, greedy_search, prompts

KINDS = ("judge", "lm", "value head")


def guide_on(family: Family, kind: str, path: Path) -> Path:
    """A head on the backbone of the judge or of the LM, or a value head."""
    return value_head_on(family, path) if kind == "value head" else head_on(family, kind, path)


@pytest.fixture(params=KINDS)
def head(request: pytest.FixtureRequest, family: Family, tmp_path: Path) -> Path:
    return guide_on(family, request.param, tmp_path / "head")


@pytest.fixture(params=KINDS[1:])
def plain_head(request: pytest.FixtureRequest, plain: Family, tmp_path: Path) -> Path:
    return guide_on(plain, request.param, tmp_path / "head")


def test_a_suffix_read_equals_the_full_one(family: Family, head: Path):
    engines = engines_with(family, head)
    contexts, responses = rolled_out(engines)
    full = serve(
        engines, [Sweep(c, r, 0, RANKED) for c, r in zip(contexts, responses, strict=True)]
    )
    later = [min(n, len(r.tokens) - 1) for n, r in enumerate(responses)]
    suffix = serve(
        engines,
        [
            Sweep(c, r, b, RANKED, swept.gradients)
            for c, r, b, swept in zip(contexts, responses, later, full, strict=True)
        ],
    )
    for response, start, a, b in zip(responses, later, full, suffix, strict=True):
        whole, part = (s.gradients.guide_states[response.tokens].hidden for s in (a, b))
        torch.testing.assert_close(part, whole[start:], rtol=1e-4, atol=1e-4)


def test_traces_do_not_depend_on_batch_or_reuse(family: Family, head: Path):
    asked = prompts(5)

    def traces(**runtime: Any) -> list[Any]:
        engines = engines_with(family, head, **runtime)
        done = drive((nabla(p, RANKED, max_tokens=10) for p in asked), engines)
        return [decisions(t) for t in sorted(done, key=lambda t: t.prompt_id)]

    reference = traces()
    assert any(changes for *_, changes in reference)
    assert traces(reuse=False) == reference
    assert traces(max_batch=1) == reference


def test_mirror_left_to_right_needs_no_gradient(plain: Family, plain_head: Path):
    engines = engines_with(plain, plain_head)
    config = greedy_search(dto=DTO(optimizer="mirror", beta=0.25))
    done = list(drive((nabla(p, config, max_tokens=10) for p in prompts(4)), engines))
    assert sum(len(t.revisions) for t in done) > 0
    assert all(t.cost.lm_backward == t.cost.rm_backward == 0 for t in done)


def test_adam_left_to_right_refuses_a_head_by_name(plain: Family, plain_head: Path):
    engines = engines_with(plain, plain_head)
    config = greedy_search()
    with pytest.raises(ModelError, match=rf"{plain_head.name} is a head: .*proposals: ranked"):
        engines.check(config)
    engines.check(replace(config, proposals="second"))
    with pytest.raises(ModelError, match="is a head"):
        list(drive([nabla(prompts(1)[0], config, max_tokens=10)], engines))
