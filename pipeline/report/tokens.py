"""The texts of token ids: the tokenizer of a run, read without torch and without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer

from nabla_core.text.fingerprint import fingerprint
from pipeline.errors import ConfigError
from pipeline.references import is_reference
from pipeline.store.checks.config_check import CONFIG
from pipeline.store.files import MALFORMED, Folder

FILE = "tokenizer.json"
_REPLACEMENT = "\ufffd"
# A character has at most four bytes; more tokens than that are no half of one.
_MOST = 4


class TokenTexts:
    """The texts of tokens under one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.fingerprint = fingerprint(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self.special = frozenset(i for i, token in added.items() if token.special)
        self._pieces: dict[int, str] = {}

    def text(self, ids: Sequence[int], *, special: bool = True) -> str:
        """The text of tokens; special tokens by their names, or left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=not special)
        return text

    def pieces(self, sequences: Iterable[Sequence[int]]) -> dict[str, str]:
        """The text of each token, by its id as a string. Tokens that hold a part of a character
        have a text together: the key is their ids, joined by commas."""
        found: dict[str, str] = {}
        for ids in sequences:
            for start, token in enumerate(ids):
                piece = self._piece(token)
                found[str(token)] = piece
                if _REPLACEMENT in piece:
                    found.update(self._joined(ids[start : start + _MOST]))
        return found

    def _joined(self, ids: Sequence[int]) -> dict[str, str]:
        for size in range(2, len(ids) + 1):
            text = self.text(ids[:size])
            if _REPLACEMENT not in text:
                return {",".join(map(str, ids[:size])): text}
        return {}

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            text = self.text([token])
            name = self._tokenizer.id_to_token(token)
            # Sentencepiece leaves out the space in front of a first word.
            if name is not None and name.startswith("\u2581") and not text.startswith(" "):
                text = " " + text
            self._pieces[token] = text
        return self._pieces[token]


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
    """The settings of a run; none where the file is missing or damaged."""
    try:
        config = yaml.safe_load(folder.read(CONFIG))
    except (FileNotFoundError, yaml.YAMLError, *MALFORMED):
        return {}
    return config if isinstance(config, Mapping) else {}
