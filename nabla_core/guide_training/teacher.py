"""A head as the teacher of a gradient guide: it predicts scores at every position.

A gradient that is trained on the few explored positions of a response hardly changes its
direction. A head learns the same counterfactuals in a minute; its predictions for the LM's
likeliest tokens at all positions are what the gradient is then trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from nabla_core.engines.base import Engines
from nabla_core.engines.loading import kind_of
from nabla_core.errors import UNREADABLE, ModelError
from nabla_core.guide_training.cost import GuideCost
from nabla_core.guide_training.examples import Batch, Example, GuideEncoder, Record
from nabla_core.guide_training.settings import Optimise
from nabla_core.guide_training.trainees import Trainee, guide_encoder, open_trainee
from nabla_core.methods.counterfactuals import Place
from nabla_core.model_config import ToolsFor
from nabla_core.models.identity import identify, unchanged
from nabla_core.models.loading import LanguageModel
from nabla_core.models.pretrained import load_tokenizer
from nabla_core.requests import Choices, Likeliest, Render, RequestGenerator, Response, ask
from nabla_core.scheduler import drive
from nabla_core.types import Cost, Identity

IN_FLIGHT = 512  # responses: enough to fill the batches of the LM


@dataclass
class Teacher:
    """A head, the encoder of its examples, and its identity. `flops`: of all labels so far."""

    head: Trainee
    encoder: GuideEncoder
    identity: Identity
    lm: LanguageModel
    flops: float = 0.0

    @classmethod
    def load(
        cls,
        path: str,
        lm: LanguageModel,
        coverage: float,
        *,
        revision: str | None,
        tools: ToolsFor = "shown",
    ) -> Teacher:
        """Load a head. `tools`: whether it reads the tools of prompts. Raises ModelError where the
        folder holds another kind of guide, and VocabularyError."""
        if kind_of(path, revision) != "head":
            raise ModelError(f"{path} cannot teach: it is no head; train one with kind: head")
        with unchanged(path):
            tokenizer = load_tokenizer(path, revision)
            head = open_trainee("head", path, tokenizer, Optimise(), revision=revision, seed=0)
        head.model.to(lm.device)
        identity = identify(path, revision)
        encoder = guide_encoder("head", head, tokenizer, lm, coverage, tools)
        return cls(head, encoder, identity, lm)

    def label(
        self, records: Sequence[Record], engines: Engines, alternatives: int, *, size: int
    ) -> Iterator[Record]:
        """The records, each with a place at every position, scored by the teacher.

        The candidates of a position are the LM's `alternatives` likeliest tokens and the token of
        the response, as far as the teacher knows them. The teacher reads `size` responses at a
        time. Records that it cannot read are left out.
        """
        # The flows run in large batches of the LM; the teacher reads what has finished.
        unlabelled = self._with_likeliest(records, engines, alternatives)
        cost = GuideCost(self.head, self.lm)
        while part := list(islice(unlabelled, size)):
            pairs = [(record, self._encode(record)) for record in part]
            kept = [(record, e) for record, e in pairs if e is not None and e.positions]
            if not kept:
                continue
            batch = Batch.of([example for _, example in kept], self.head.model.device)
            values, _ = self.head.predict(batch, differentiable=False)
            self.flops += cost.predictions([e for _, e in kept])
            # The batch has the positions of all examples in their order, padded to the same width.
            rows = iter(values.tolist())
            for record, _ in kept:
                places = tuple(
                    replace(place, scores=tuple(next(rows)[: len(place.tokens)]))
                    for place in record.places
                )
                yield replace(record, places=places)

    def _encode(self, record: Record) -> Example | None:
        try:
            return self.encoder.encode(record)
        except UNREADABLE:
            return None

    def _with_likeliest(
        self, records: Iterable[Record], engines: Engines, alternatives: int
    ) -> Iterator[Record]:
        """The records with unscored places at every position."""
        flows = (_likeliest(record, alternatives) for record in records)
        for reply in drive(flows, engines, in_flight=IN_FLIGHT):
            self.flops += reply.cost.flops
            places = [self._place(n, choice) for n, choice in enumerate(reply.choices)]
            yield replace(reply.record, places=tuple(p for p in places if len(p.tokens) > 1))

    def _place(self, position: int, choice: Choices) -> Place:
        """The candidates that the teacher knows, with score 0; none where it does not know the
        token of the response."""
        known = self.encoder.vocabulary.ids[list(choice.tokens)].ge(0).tolist()
        candidates = zip(choice.tokens, choice.log_probabilities, known, strict=True)
        pairs = [(token, log_p) for token, log_p, is_known in candidates if is_known]
        tokens, log_probabilities = zip(*pairs, strict=True) if pairs and known[0] else ((), ())
        scores = (0.0,) * len(tokens)
        return Place(
            position=position,
            confidence=choice.confidence,
            tokens=tokens,
            log_probabilities=log_probabilities,
            scores=scores,
        )


@dataclass
class _Likeliest:
    record: Record
    choices: list[Choices]
    cost: Cost = field(default_factory=Cost)


def _likeliest(record: Record, alternatives: int) -> RequestGenerator[_Likeliest]:
    context = yield from ask(Render(record.prompt))
    response = Response(record.tokens, "stop")
    choices = yield from ask(Likeliest(context, response, alternatives))
    return _Likeliest(record, choices)
