"""Which ids stand for a token, and the map from the LM's token ids to those of a reward model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nabla_core.errors import EncodingError, ModelError, VocabularyError


def require_rows(tokenizer: Any, rows: int, name: str) -> None:
    """Raises ModelError where a tokenizer has tokens that an embedding table of so many rows does
    not hold. Special tokens may be beyond it, as the image token of text models: a prompt with
    one is refused. The tokens that begin and end texts may not."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special -= {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    beyond = {i: t for t, i in tokenizer.get_vocab().items() if i >= rows and i not in special}
    if beyond:
        first = min(beyond)
        raise ModelError(
            f"{name}: its tokenizer does not fit the model: {len(beyond)} of its tokens are beyond "
            f"its embedding table of {rows} rows, the first is {beyond[first]!r} (id {first})"
        )


def require_known(ids: Collection[int], rows: int, name: str) -> None:
    """Raises EncodingError for an id of a prompt that an embedding table does not hold."""
    if ids and max(ids) >= rows:
        raise EncodingError(f"{name} has token {max(ids)}, which is not in a table of {rows} rows")


def ids_without_token(tokenizer: Any, size: int, *, stop: Collection[int] = ()) -> Tensor:
    """bool `[size]`, True for ids that stand for no token: the padding of a table, and the gaps
    between the ids of a tokenizer. An id of `stop` ends a response, whatever the tokenizer calls
    it."""
    # Not by `len(tokenizer)`: where ids have gaps, the last tokens are beyond it.
    without = torch.ones(size, dtype=torch.bool)
    ids = [*tokenizer.get_vocab().values(), *stop]
    without[[i for i in ids if i < size]] = False
    return without


def ids_with_text(tokenizer: Any, no_token: Tensor, text: str) -> frozenset[int]:
    """The tokens whose text holds `text`; bool `no_token` `[V]` as in `ids_without_token`."""
    ids = (~no_token).nonzero().squeeze(-1).tolist()
    return frozenset(i for i in ids if text in tokenizer.decode([i], skip_special_tokens=False))


@dataclass(frozen=True, eq=False)
class VocabularyMap:
    """LM ids to reward-model ids.

    ids: int64 `[V]`, -1 where the reward model has no such token (also at padding ids of the
    LM). `coverage` is the share of the LM's tokens that have one. Tokens without one are never
    proposed; in a response they are an error of that prompt.
    """

    ids: Tensor
    coverage: float

    def translate(self, tokens: tuple[int, ...]) -> list[int]:
        """Reward-model ids of LM tokens. Raises EncodingError naming the first that has none."""
        mapped: list[int] = self.ids[list(tokens)].tolist()
        if -1 in mapped:
            position = mapped.index(-1)
            raise EncodingError(
                f"token {tokens[position]} at position {position} of the response is not in "
                "the reward model's vocabulary"
            )
        return mapped


def map_vocabulary(
    lm: Any, rm: Any, *, size: int, rm_size: int, names: tuple[str, str], min_coverage: float
) -> VocabularyMap:
    """Match two tokenizers' tokens by their strings.

    `size`: rows of the LM's head, `rm_size`: rows of the reward model's embedding table. `names`:
    LM and reward model, for the error. Raises VocabularyError where the reward model knows a
    smaller share of the LM's tokens than `min_coverage`.
    """
    lm_tokens, rm_tokens = lm.get_vocab(), rm.get_vocab()
    ids = torch.full((size,), -1, dtype=torch.int64)
    for token, i in lm_tokens.items():
        # A tokenizer may have added tokens beyond the table: no model can write or read them.
        if i < size and rm_tokens.get(token, rm_size) < rm_size:
            ids[i] = rm_tokens[token]
    shared, total = int((ids >= 0).sum()), len([i for i in lm_tokens.values() if i < size])
    coverage = shared / total
    # Byte-level and sentencepiece tokenizers write the same text differently, so they share little.
    if coverage < min_coverage:
        advice = (
            "their tokenizers are of different kinds, so no gradient can pass between them"
            if coverage < 0.05
            else "lower reward.min_coverage to accept this; the others are then never proposed"
        )
        raise VocabularyError(
            f"{names[1]} knows {shared} of the {total} tokens of {names[0]} ({coverage:.1%}); "
            f"at least {min_coverage:.1%} are needed: {advice}"
        )
    return VocabularyMap(ids, coverage)
