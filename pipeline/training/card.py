"""Cards as files: what every training says of its result. Nothing here imports torch or ray."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.errors import StoreError
from pipeline.references import redacted
from pipeline.store.files import MALFORMED, Folder


def card_bytes(card: Mapping[str, Any]) -> bytes:
    """A card as JSON, without the secrets of its URIs."""
    return json.dumps(redacted(card), indent=2, ensure_ascii=False).encode()


def load_card(
    folder: Folder,
    name: str,
    *,
    schema: str,
    unmarked: str | None = None,
    types: Mapping[str, type],
    nullable: Collection[str] = (),
) -> dict[str, Any]:
    """The card in the file `name` of a run folder. `types` are those of the keys that are read, and
    `nullable` keys are there, whatever they hold. `unmarked` is the schema of a card that names
    none.

    Raises StoreError where it is damaged or has another schema.
    """
    try:
        card: dict[str, Any] = dict(json.loads(folder.read(name)))
    except MALFORMED as error:
        raise _damaged(folder, name) from error
    found = card.get("schema", unmarked)
    if found != schema:
        raise StoreError(
            f"{folder.uri}/{name} has schema {found} and this version reads {schema}; "
            f"train the {schema.partition('/')[0]} again in another run_dir"
        )
    whole = all(isinstance(card.get(key), kind) for key, kind in types.items())
    if not whole or not all(key in card for key in nullable):
        raise _damaged(folder, name)
    return card


def _damaged(folder: Folder, name: str) -> StoreError:
    return StoreError(
        f"{folder.uri}/{name} is damaged: delete it, and the same command writes it again"
    )
