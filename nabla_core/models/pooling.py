"""Where a sequence classifier reads its reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def pad_token(model: Any) -> int | None:
    """The pad token by which a classifier finds the end of a text; None where it has none."""
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    return None if pad is None else int(pad)


def pool_index(tokens: Sequence[int], pad: int | None) -> int:
    """The index of the token whose hidden state gives the reward: the last that is not `pad`, as
    in transformers. Where pad is the end-of-text token too, that is the one before it.

    Without a pad token it is the last token. A text of pad tokens alone is read at its first.
    """
    kept = (i for i in range(len(tokens) - 1, -1, -1) if tokens[i] != pad)
    return next(kept, 0)
