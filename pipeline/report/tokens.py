"""The texts of token ids: the tokenizer of a run, read without torch and without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from tokenizers import Tokenizer

from nabla_core.text.fingerprint import fingerprint
from pipeline.errors import ConfigError
from pipeline.references import is_reference
from pipeline.store.checks.config_check import CONFIG
from pipeline.store.files import MALFORMED, Folder

Array = npt.NDArray[Any]

FILE = "tokenizer.json"
_REPLACEMENT = "\ufffd"
# A character has at most four bytes; more tokens than that are no half of one.
_MOST = 4
# So many of such characters are kept; a text has few different ones.
_JOINED = 50_000


class TokenTexts:
    """The texts of tokens under one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.fingerprint = fingerprint(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self.special = frozenset(i for i, token in added.items() if token.special)
        # The first id behind those of the tokenizer.
        self._end = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        self._pieces: dict[int, str | None] = {}
        self._joined = lru_cache(_JOINED)(self._join)

    def text(self, ids: Sequence[int], *, special: bool = True) -> str:
        """The text of tokens; special tokens by their names, or left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=not special)
        return text

    def pieces(self, ids: Array, sizes: Array) -> dict[str, str]:
        """The text of each token, by its id as a string; none of an id that the tokenizer does not
        know. Tokens that hold a part of a character have a text together: the key is their ids,
        joined by commas. `ids` are those of several sequences, `sizes` how many each has."""
        tokens = np.unique(ids)
        tokens = tokens[(tokens >= 0) & (tokens < self._end)]
        known = ((token, self._piece(token)) for token in tokens.tolist())
        found = {str(token): piece for token, piece in known if piece is not None}
        halves = [int(token) for token, piece in found.items() if _REPLACEMENT in piece]
        if halves:
            ends = np.repeat(np.cumsum(sizes), sizes)
            for at in np.flatnonzero(np.isin(ids, halves)).tolist():
                following = ids[at : min(at + _MOST, ends[at])]
                found.update(self._joined(tuple(following.tolist())))
        return found

    def _join(self, ids: tuple[int, ...]) -> dict[str, str]:
        for size in range(2, len(ids) + 1):
            text = self.text(ids[:size])
            if _REPLACEMENT not in text:
                return {",".join(map(str, ids[:size])): text}
        return {}

    def _piece(self, token: int) -> str | None:
        if token not in self._pieces:
            name = self._tokenizer.id_to_token(token)
            self._pieces[token] = None if name is None else self._text_of(token, name)
        return self._pieces[token]

    def _text_of(self, token: int, name: str) -> str:
        text = self.text([token])
        # Sentencepiece leaves out the space in front of a first word.
        return " " + text if name.startswith("\u2581") and not text.startswith(" ") else text


def token_texts(path: str, revision: str | None) -> TokenTexts | None:
    """The tokenizer of a model folder or of a hub model in the local cache; None where there is
    none that can be read. Raises ConfigError where its file is damaged."""
    file = _file(path, revision)
    if file is None:
        return None
    try:
        return TokenTexts(Tokenizer.from_file(str(file)))
    except Exception as error:
        raise ConfigError(f"{file} is no tokenizer: {error}") from error


def _file(path: str, revision: str | None) -> Path | None:
    from nabla_core.embedded.weights import model_location  # noqa: PLC0415

    location = model_location(path, "lm")
    folder = Path(location)
    if folder.is_dir():
        return folder / FILE if (folder / FILE).is_file() else None
    # It takes half a second to import, and most models are folders.
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    try:
        cached = try_to_load_from_cache(location, FILE, revision=revision)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


def run_tokens(folder: Folder, tokenizer: str | None = None) -> TokenTexts | None:
    """The tokenizer of a run's LM, or the one at the path `tokenizer`; None where it cannot be
    found, or where the run's config does not name it. Raises ConfigError where `tokenizer` holds
    none."""
    if tokenizer is not None:
        found = token_texts(tokenizer, None)
        if found is None:
            raise ConfigError(f"tokenizer: {tokenizer} holds no {FILE}")
        return found
    lm = run_config(folder).get("lm")
    path, revision = (lm.get("path"), lm.get("revision")) if isinstance(lm, Mapping) else (None, 0)
    if not isinstance(path, str) or is_reference(path):
        return None
    return token_texts(path, revision if isinstance(revision, str) else None)


def run_config(folder: Folder) -> Mapping[str, Any]:
    """The settings of a run; none where the file is missing or damaged, which the pages say."""
    try:
        config = yaml.safe_load(folder.read(CONFIG))
    except (FileNotFoundError, yaml.YAMLError, *MALFORMED):
        return {}
    return config if isinstance(config, Mapping) else {}
