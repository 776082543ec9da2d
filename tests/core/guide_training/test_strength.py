"""The beta at which a guide moves the LM by a given divergence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from nabla_core import Reward, Runtime, Sampling, load_engines
from nabla_core.engines.base import Engines
from nabla_core.engines.divergence import DivergenceEngine, Law
from nabla_core.guide_training.examples import Record
from nabla_core.guide_training.strength import Strength, strength
from nabla_core.model_config import LM
from nabla_core.requests import Diverge, Render, Reply, Sweep
from tests.core.guides.heads import value_head_on
from tests.core.reference import serve
from tests.core.tiny import Family, prompts

TOKENS = ((5, 6, 7, 8, 9), (9, 4, 6), (5,), (8, 8, 4, 7))
RECORDS = [
    Record(prompt.id, prompt, tokens, 0.0, ())
    for prompt, tokens in zip(prompts(len(TOKENS)), TOKENS, strict=True)
]


@dataclass
class Measured:
    """A guide and its engines."""

    engines: Engines

    @classmethod
    def of(cls, family: Family, guide: Path, **runtime: Any) -> Measured:
        reward = Reward(judge=str(family.judge), guide=str(guide), min_coverage=0.9)
        return cls(load_engines(LM(str(family.lm)), reward, Runtime(device="cpu", **runtime)))

    @property
    def guide(self) -> Any:
        return self.engines.serving(Sweep)._guide  # type: ignore[attr-defined]

    def strength(self, kl: float, positions: int = 100) -> Strength | None:
        return strength(self.guide, self.engines, RECORDS, kl=kl, positions=positions)

    def scale(self, factor: float) -> None:
        """Let the judge, and so the guide, count in other units."""
        with torch.no_grad():
            self.guide.head.output.weight.mul_(factor)


@pytest.mark.parametrize("kl", [0.03, 0.3])
def test_the_guided_law_diverges_by_so_much_at_that_beta(
    family: Family, tmp_path: Path, kl: float
) -> None:
    measured = Measured.of(family, value_head_on(family, tmp_path / "head"))
    found = measured.strength(kl)
    assert found is not None
    assert (found.kl, found.positions) == (kl, sum(map(len, TOKENS)))
    law = Law(lm=measured.guide.lm, sampling=Sampling(1.0, beta=found.beta), guide=measured.guide)
    engine = DivergenceEngine(measured.guide.lm, law, 8, 1 << 30)
    contexts = serve(measured.engines, [Render(record.prompt) for record in RECORDS])
    replies: Any = engine.answer(
        [Diverge(context, record.tokens) for context, record in zip(contexts, RECORDS, strict=True)]
    )
    assert all(isinstance(reply, Reply) for reply in replies)
    total = sum(reply.value.kl for reply in replies)
    # Between two strengths that are measured it is interpolated.
    assert total / found.positions == pytest.approx(kl, rel=0.05)


def test_beta_is_in_units_of_the_judge_and_no_batch_changes_it(
    family: Family, tmp_path: Path
) -> None:
    head = value_head_on(family, tmp_path / "head")
    measured = Measured.of(family, head)
    one = measured.strength(0.1)
    measured.scale(100)
    hundred = measured.strength(0.1)
    assert one is not None
    assert hundred is not None
    assert hundred.beta == pytest.approx(100 * one.beta, rel=1e-3)
    assert hundred.gain == pytest.approx(100 * one.gain, rel=1e-3)
    assert one.gain > 0
    alone = Measured.of(family, head, max_batch=1).strength(0.1)
    assert alone is not None
    assert alone.beta == pytest.approx(one.beta, rel=1e-4)


def test_only_the_first_positions_are_measured(family: Family, tmp_path: Path) -> None:
    head = value_head_on(family, tmp_path / "head")
    few = Measured.of(family, head).strength(0.1, positions=6)
    assert few is not None
    assert few.positions == 6


def test_a_guide_that_predicts_nothing_has_no_beta(family: Family, tmp_path: Path) -> None:
    measured = Measured.of(family, value_head_on(family, tmp_path / "head"))
    measured.scale(0)
    assert measured.strength(0.1) is None


def test_a_gradient_has_one_too(family: Family) -> None:
    found = Measured.of(family, family.guide).strength(0.1)
    assert found is not None
    assert found.gain > 0
