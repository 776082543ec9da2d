"""The value head guide: advantages of all replacements, from the LM's own hidden states.

A small network on the frozen LM (`models.value_head`): at the token before position i it turns the
LM's last hidden state h into advantages A_i `[V]` of every token that could stand at i, in units of
the judge's reward. A sweep and a decoding step have h already, so guiding costs an output layer and
no second forward pass. ILQL's Q heads (arXiv 2206.11871) and the prefix scorers of Controlled
Decoding (arXiv 2310.17022) are networks in the same place.

A value head belongs to one LM. With any other it is refused: hidden states of two LMs have nothing
in common, whatever their sizes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective
from nabla_core.errors import ModelError
from nabla_core.guides.base import GuideRead, rows_of
from nabla_core.guides.decoding import HistoryReader
from nabla_core.guides.predicted import PredictedAdvantages, loss_rows
from nabla_core.models.identity import identify, unchanged
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel
from nabla_core.models.pretrained import load_pretrained
from nabla_core.models.readers import Task
from nabla_core.models.value_head import ValueHead, ValueHeadConfig
from nabla_core.models.vocab import VocabularyMap
from nabla_core.types import Identity


@dataclass(eq=False)
class ValueHeadState:
    """`hidden` `[T-start, D]`: the hidden states of the LM that predicted each token, from `start`
    on."""

    start: int
    hidden: Tensor


class ValueHeadGuide(PredictedAdvantages):
    """An LM and the value head on it. See `guides.base.Guide` and `guides.decoding.DecodingGuide`.

    Raises ModelError where the value head belongs to another LM.
    """

    # A rollout has the hidden states that are read here: there is no history beside the LM's.
    reader: HistoryReader | None = None

    def __init__(self, lm: LanguageModel, head: ValueHead, identity: Identity) -> None:
        require_lm(head.config, identity.name, lm.identity, lm.source)
        super().__init__(lm, identity.name)
        self.head = head
        self.identity = identity
        self.vocabulary = own_vocabulary(lm)

    def read(
        self, tasks: Sequence[Task], lm_caches: Sequence[PrefixCache | None], config: NablaConfig
    ) -> list[GuideRead]:
        reads = self._read_lm(tasks, lm_caches, config)
        return [GuideRead(lm, ValueHeadState(lm.start, lm.hidden), None, None) for lm in reads]

    def rows(
        self, chosen: Sequence[tuple[ValueHeadState, int]], objective: Objective, logits: Tensor
    ) -> Tensor:
        hidden = rows_of([(state.hidden, i - state.start) for state, i in chosen])
        return loss_rows(self.next_advantages(hidden), objective)

    def next_advantages(self, hidden: Tensor) -> Tensor:
        advantages: Tensor = self.head(hidden.to(self.head.dtype)).float()
        return advantages

    def next_flops(self) -> float:
        return self.head.config.flops


def own_vocabulary(lm: LanguageModel) -> VocabularyMap:
    """The map of an LM's tokens to themselves; ids that are no token have no image."""
    ids = torch.arange(len(lm.no_token)).masked_fill(lm.no_token.cpu(), -1)
    return VocabularyMap(ids, 1.0)


def require_lm(config: ValueHeadConfig, name: str, lm: Identity, source: str) -> None:
    """Raises ModelError where the value head `name` belongs to another LM than `lm`, which is at
    `source`."""
    if config.lm_revision == lm.revision and (lm.digested or config.lm_name == lm.name):
        return
    raise ModelError(
        f"{name} is a value head of the LM {config.lm_name} ({config.lm_revision}), and lm.path is "
        f"{source} ({lm.revision}): it reads the hidden states of its own LM and of no other; use "
        "it with that LM, or train one on this LM (nabla train-guide, kind: value_head)"
    )


def load_value_head(
    path: str, *, revision: str | None, device: torch.device, dtype: torch.dtype
) -> tuple[ValueHead, Identity]:
    """Load a value head. Raises ModelError naming the path."""
    with unchanged(path):
        head: ValueHead = load_pretrained(
            ValueHead, path, purpose="a value head", revision=revision, dtype=dtype
        )
    return head.to(device).requires_grad_(False), identify(path, revision)
