"""Encoding parts of a text that a model reads as one.

`Encode` is a tokenizer's `encode`: a text and whether special tokens are added to it -> ids.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

Encode = Callable[[str, bool], list[int]]


def encode_plain(tokenizer: Any, encode: Encode, text: str) -> tuple[list[int], list[int]]:
    """Ids of a text with the special tokens that the tokenizer adds in front; and those that it
    adds behind, such as an eos."""
    bare, ids = encode(text, False), encode(text, True)
    size = len(bare)
    if not size:
        ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {tokenizer.bos_token_id}
        kept = next((n for n, token in enumerate(ids) if token in ends), len(ids))
        return ids[:kept], ids[kept:]
    # A tokenizer that writes the text differently between special tokens adds none behind it.
    places = range(len(ids) - size + 1)
    end = next((n + size for n in places if ids[n : n + size] == bare), len(ids))
    return ids[:end], ids[end:]


def encode_behind(encode: Encode, text: str) -> list[int]:
    """Ids of a text that stands behind another one."""
    # Alone, a Metaspace tokenizer (SentencePiece) would begin it with a token of its own, for the
    # space that it puts in front of every text. So it is read behind something, which is cut off.
    for anchor in ("a", "0", ".", "x"):
        head, both = encode(anchor, False), encode(anchor + text, False)
        if both[: len(head)] == head:
            return both[len(head) :]
    return encode(text, False)


def closes_turn(tokenizer: Any) -> bool:
    """Whether ids follow a response and close it: those of a chat template, or those that the
    tokenizer adds behind a text."""
    return bool(tokenizer.chat_template) or _adds_behind(tokenizer)


def encoder(tokenizer: Any) -> Encode:
    """The tokenizer's own encoding."""

    def encode(text: str, special: bool) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=special)
        return ids

    return encode


@lru_cache(maxsize=8)
def _adds_behind(tokenizer: Any) -> bool:
    return bool(encode_plain(tokenizer, encoder(tokenizer), "a")[1])
