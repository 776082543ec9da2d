"""Guides that decode: the advantages of the next token, while a response is written.

A rollout with `Sampling.beta` draws each token from p(b) exp(A(b) / beta): p is the LM's law, A
the guide's advantages. Where the head is exact this is the optimum of the mean reward of tails of
the LM minus beta times the KL divergence, token by token; with errors in the head it is a
heuristic.

Decoding by predicted values is known: FUDGE (arXiv 2104.05218), ILQL (2206.11871), Controlled
Decoding (2310.17022), ARGS (2402.01694), GenARM (2410.08193), FaRMA (2502.04517), Q# (2502.20548);
Evolutionary Guided Decoding in rounds. Ours are the labels (a judge's scores of counterfactual
substitutions with re-rolled tails, ranked across positions too), one head that decodes, searches a
finished draft and proposes to samplers, and a separate judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from nabla_core.config import Sampling
from nabla_core.errors import EncodingError, ModelError
from nabla_core.models.loading import LanguageModel
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Context
from nabla_core.text.thinking import ThinkBlock, before_response


@dataclass(frozen=True, eq=False)
class HistoryReader:
    """A model beside the LM that reads prompts, and responses as far as they are written.

    `vocabulary` maps the LM's tokens to the model's, `think` is how the model's template treats
    reasoning. `Context.guide` holds the prompt as this model reads it.
    """

    model: LanguageModel
    vocabulary: VocabularyMap
    think: ThinkBlock | None

    def history(self, context: Context, tokens: Sequence[int]) -> list[int]:
        """The ids that the model reads in front of the token behind `tokens` (LM ids). Raises
        EncodingError for a token that it does not know."""
        body = self.vocabulary.translate(tuple(tokens))
        before = before_response(self.think, self.model.tokenizer, context.guide[0], body)
        return [*before, *body]

    def id_of(self, token: int, position: int) -> int:
        """The model's id of the LM's `token` at a position of a response. Raises EncodingError."""
        found = int(self.vocabulary.ids[token])
        if found < 0:
            raise EncodingError(
                f"token {token} at position {position} of the response is not in the guide's "
                "vocabulary"
            )
        return found

    def may_reframe(self, last: int) -> bool:
        """Whether the ids in front of a response can change with its last token (the model's id):
        only where that completes the tag of a think block."""
        if self.think is None:
            return False
        tokenizer: Any = self.model.tokenizer
        # Both tags of a kind end in the same character.
        return self.think.close[-1] in tokenizer.decode([last], skip_special_tokens=False)


class DecodingGuide(Protocol):
    """A guide that predicts the advantages of the next token. It comes in two shapes:

    - with a `reader`, a model of its own that reads prompt and response as they are written, with
      its own keys and values; its last hidden state gives the advantages (`HeadGuide`);
    - without (`None`), a function of the LM's own last hidden state: no second forward pass.
    """

    @property
    def reader(self) -> HistoryReader | None: ...

    def next_advantages(self, hidden: Tensor) -> Tensor:
        """Advantages of every LM token that could come next, in units of the judge's reward.

        hidden `[n, D]`: the last hidden states of the reader's model, or of the LM where there is
        no reader. Returns fp32 `[n, V]`; 0 for tokens that the guide does not know. They need not
        be finite: the engine checks it, and fails those rows alone.
        """

    def next_flops(self) -> float:
        """Floating-point operations of one row of advantages, without the reader's pass."""


def refuse_decoding(source: str, sampling: Sampling) -> None:
    """Raises ModelError where a sampling has a `beta`, and its guide is the reward model at
    `source`."""
    if sampling.beta is not None:
        raise ModelError(
            f"reward.guide {source} is a reward model: its gradient exists for finished responses "
            f"alone, so it cannot guide decoding (beta={sampling.beta:g}); use a head "
            "(`nabla train-guide` makes one) or set beta: null"
        )
