"""FLOPs of training a guide, by its kind (`nabla_core.models.training_flops`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nabla_core.guide_training.examples import Example
from nabla_core.guide_training.trainees import GradientTrainee, HeadTrainee, Trainee
from nabla_core.guide_training.value_head import ValueHeadTrainee
from nabla_core.models.loading import LanguageModel
from nabla_core.models.training_flops import TrainedShape


class GuideCost:
    """What a step of a trainee costs, and a pass that measures it.

    It reads which weights are trained when it is made, so make it where they are as in a step.
    """

    def __init__(self, trainee: Trainee, lm: LanguageModel) -> None:
        self._trainee, self._lm = trainee, lm
        self._shape = None
        if not isinstance(trainee, ValueHeadTrainee):
            model: Any = trainee.model
            self._shape = TrainedShape.of(model.base_model, model.config, trainee.output)

    def step(self, examples: Sequence[Example], unread: int) -> float:
        """A step on examples; the LM has not read the first `unread` of them before (a value head
        reads what the LM made of an example, and keeps it)."""
        total = sum(map(self._step, examples))
        if isinstance(self._trainee, ValueHeadTrainee):
            total += sum(self._lm.shape.forward(len(e.ids)) for e in examples[:unread])
        return total

    def predictions(self, examples: Sequence[Example]) -> float:
        """Predictions of examples, as a measurement of agreement takes them."""
        return sum(map(self._prediction, examples))

    def _step(self, example: Example) -> float:
        fed, rows = len(example.ids), 3 * self._candidates(example)
        match self._trainee:
            case ValueHeadTrainee():
                return 3 * self._features(example) + rows
            case GradientTrainee():
                return self._of_body().double_backward(fed) + rows
            case HeadTrainee():
                return self._of_body().step(fed, 0) + rows
        raise TypeError(f"{type(self._trainee).__name__} is no kind of guide that is trained")

    def _prediction(self, example: Example) -> float:
        fed, rows = len(example.ids), self._candidates(example)
        match self._trainee:
            case ValueHeadTrainee():
                return self._lm.shape.forward(fed) + self._features(example) + rows
            case GradientTrainee():
                shape = self._of_body().shape
                return shape.forward(fed) + shape.backward(fed) + 2 * shape.head(1) + rows
        return self._of_body().forward(fed, 0) + rows

    def _of_body(self) -> TrainedShape:
        assert self._shape is not None
        return self._shape

    def _candidates(self, example: Example) -> float:
        """Values of the candidates alone: a product of D numbers each."""
        width: int = self._trainee.output.in_features
        if isinstance(self._trainee, GradientTrainee):
            width = self._of_body().shape.hidden
        return 2.0 * width * sum(len(p.tokens) for p in example.positions)

    def _features(self, example: Example) -> float:
        config = self._trainee.model.config
        return (config.flops - 2.0 * config.hidden_size * config.vocab_size) * len(
            example.positions
        )
