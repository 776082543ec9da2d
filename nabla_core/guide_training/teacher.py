"""A head as the teacher of a gradient: scores at every position, predicted.

A gradient that is taught at the few positions of a response that were explored hardly turns at
all (README, "Guides"). A head learns from the same counterfactuals in a minute, and what it
predicts of the LM's likeliest tokens at all positions is what the gradient is then taught.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from transformers import AutoTokenizer

from nabla_core.engines.base import Engines
from nabla_core.engines.loading import kind_of
from nabla_core.errors import UNREADABLE, ModelError
from nabla_core.guide_training.examples import Batch, Example, GuideEncoder, Record
from nabla_core.guide_training.settings import Optimise
from nabla_core.guide_training.trainees import Trainee, guide_encoder, open_trainee
from nabla_core.methods.counterfactuals import Place
from nabla_core.models.identity import identify_loaded
from nabla_core.models.loading import LanguageModel
from nabla_core.requests import Asking, Choices, Likeliest, Render, Response, ask
from nabla_core.scheduler import drive
from nabla_core.types import Cost, Identity

IN_FLIGHT = 512


@dataclass
class Teacher:
    """A head, how it reads, and which one it is."""

    head: Trainee
    encoder: GuideEncoder
    identity: Identity

    @classmethod
    def load(
        cls, path: str, lm: LanguageModel, coverage: float, *, revision: str | None
    ) -> Teacher:
        """Raises ModelError where the folder holds no head, VocabularyError."""
        if kind_of(path, revision) != "head":
            raise ModelError(f"{path} cannot teach: it is no head; train one with kind: head")
        tokenizer: Any = AutoTokenizer.from_pretrained(path, revision=revision)
        head = open_trainee("head", path, tokenizer, Optimise(), revision=revision, seed=0)
        head.model.to(lm.device)
        identity = identify_loaded(path, revision, head.model.config)
        return cls(head, guide_encoder("head", head, tokenizer, lm, coverage), identity)

    def predicted(
        self, records: Sequence[Record], engines: Engines, alternatives: int, *, size: int
    ) -> Iterator[Record]:
        """The records with a place at every position: the LM's `alternatives` likeliest tokens
        that the teacher knows, the one taken among them, and what the teacher says of them,
        `size` responses at a time. Records that it cannot read are left out."""
        seen = self._seen(records, engines, alternatives)
        while part := list(islice(seen, size)):
            kept = [(r, e) for r in part if (e := self._read(r)) and e.places]
            if not kept:
                continue
            batch = Batch.of([e for _, e in kept], self.head.model.device)
            values, _ = self.head.predict(batch, differentiable=False)
            rows = iter(values.tolist())
            for record, _ in kept:
                places = tuple(
                    replace(place, scores=tuple(next(rows)[: len(place.tokens)]))
                    for place in record.places
                )
                yield replace(record, places=places)

    def _read(self, record: Record) -> Example | None:
        try:
            return self.encoder.example(record)
        except UNREADABLE:
            return None

    def _seen(
        self, records: Iterable[Record], engines: Engines, alternatives: int
    ) -> Iterator[Record]:
        flows = (_look(record, alternatives) for record in records)
        for seen in drive(flows, engines, in_flight=IN_FLIGHT):
            places = [self._place(n, choice) for n, choice in enumerate(seen.choices)]
            yield replace(seen.record, places=tuple(p for p in places if len(p.tokens) > 1))

    def _place(self, position: int, choice: Choices) -> Place:
        known = self.encoder.vocabulary.ids[list(choice.tokens)].ge(0).tolist()
        pairs = [
            pair
            for pair, there in zip(
                zip(choice.tokens, choice.log_probabilities, strict=True), known, strict=True
            )
            if there
        ]
        tokens, log_probabilities = zip(*pairs, strict=True) if pairs and known[0] else ((), ())
        scores = (0.0,) * len(tokens)
        return Place(position, choice.confidence, tokens, log_probabilities, scores)


@dataclass
class _Seen:
    record: Record
    choices: list[Choices]
    cost: Cost = field(default_factory=Cost)


def _look(record: Record, alternatives: int) -> Asking[_Seen]:
    context = yield from ask(Render(record.prompt))
    response = Response(record.tokens, "stop")
    choices = yield from ask(Likeliest(context, response, alternatives))
    return _Seen(record, choices)
