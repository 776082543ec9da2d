"""Which tokenizer token ids belong to."""

from __future__ import annotations

from hashlib import sha256
from typing import Any


def fingerprint(tokenizer: Any) -> str:
    """A digest of a tokenizer's tokens and their ids: equal where ids mean the same tokens."""
    digest = sha256()
    for token, i in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]):
        digest.update(f"{i}\x1f{token}\x1e".encode("utf-8", "surrogatepass"))
    return f"sha256:{digest.hexdigest()[:16]}"
