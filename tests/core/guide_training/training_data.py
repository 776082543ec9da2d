"""Records, examples and trainees that the tests of guide training share."""

from __future__ import annotations

from typing import Any

import torch

from nabla_core.engines.base import Engines
from nabla_core.guide_training.examples import Batch, Example, Record, ScoredPosition
from nabla_core.guide_training.settings import Kind, Optimise
from nabla_core.guide_training.trainees import Trainee, open_trainee
from nabla_core.guide_training.value_head import open_value_head
from nabla_core.methods.counterfactuals import Explore, explore
from nabla_core.models.loading import load_language_model
from nabla_core.scheduler import drive
from tests.core.tiny import Family, prompts

CPU = torch.device("cpu")


OPEN = Optimise(freeze_embeddings=False)


WITH_BACKBONE: list[Kind] = ["gradient", "head"]
KINDS: list[Kind] = [*WITH_BACKBONE, "value_head"]


def records(engines: Engines) -> list[Record]:
    config = Explore(temperatures=(1.0,), positions=3, alternatives=4)
    by_id = {p.id: p for p in prompts(5)}
    flows = [explore(p, config, lambda p, t: None, max_tokens=9) for p in by_id.values()]
    made = sorted(drive(flows, engines), key=lambda e: e.prompt_id)
    return [Record(e.prompt_id, by_id[e.prompt_id], e.tokens, e.score, e.places) for e in made]


def trainee_of(
    family: Family, kind: Kind, optimise: Optimise = OPEN, role: str = "guide"
) -> tuple[Trainee, Any, Any]:
    """The trainee, its tokenizer, the LM."""
    lm = load_language_model(str(family.lm), revision=None, device=CPU, dtype=torch.float32)
    made: Trainee
    if kind == "value_head":
        made = open_value_head(None, lm, width=24, output="zero", revision=None, seed=3)
        torch.nn.init.normal_(made.output.weight, std=0.3)
        return made, lm.tokenizer, lm
    path = str(getattr(family, role))
    tokenizer = family.tokenizer(role)
    made = open_trainee(kind, path, tokenizer, optimise, revision=None, seed=3)
    if kind == "head":
        torch.manual_seed(9)
        torch.nn.init.normal_(made.model.get_output_embeddings().weight, std=0.3)
    return made, tokenizer, lm


PRIORS = (-0.3, -1.7, -2.5)


def example(name: str, *places: tuple[list[float], list[float]]) -> tuple[Example, list[Any]]:
    """A response with positions of (scores, the predictions)."""
    tried = tuple(
        ScoredPosition(n + 1, tuple(range(len(scores))), tuple(scores), PRIORS[: len(scores)])
        for n, (scores, _) in enumerate(places)
    )
    return Example(name, name, tuple(range(8)), 0.0, tried), [predicted for _, predicted in places]


FIRST = example("a", ([0.0, 2.0], [0.5, 1.0]), ([1.0, 0.0, 1.5], [0.0, 0.2, -0.1]))


SECOND = example("b", ([0.0, -1.0, 0.5], [0.0, 0.0, 3.0]))


class Fixed:
    """A trainee with fixed predictions."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.model.device = CPU  # type: ignore[assignment]
        self.rows = torch.tensor(rows)

    def predict(self, batch: Batch, *, differentiable: bool = True) -> tuple[torch.Tensor, None]:
        return self.rows, None

    def guide(self, *_: Any) -> Any:
        raise NotImplementedError
