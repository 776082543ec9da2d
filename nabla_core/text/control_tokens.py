"""Control tokens of a tokenizer, and texts that hold their names.

A tokenizer turns `<|im_end|>` into the token that ends a turn wherever it stands, also in the words
of a user. Here such words are encoded as the text that they are: the template is rendered with
marks in their place, and the result is encoded by a copy of the tokenizer that knows its control
tokens under other names. So everything around them is encoded exactly as before.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer

from nabla_core.errors import RenderError

# Unicode reserves these for use inside a program; no text that is passed on holds them.
_MARK = "\ufdd0{}\ufdd1"
_MARKS = re.compile("\ufdd0([0-9]+)\ufdd1")
_NAME = "\ufdd2{}\ufdd3"
_RESERVED = re.compile("[\ufdd0-\ufdd5]")


def added_in(tokenizer: Any, text: str) -> frozenset[str]:
    """The names of a tokenizer's added tokens that a text holds."""
    tokens = tokenizer.added_tokens_decoder.values()
    return frozenset(token.content for token in tokens if token.content in text)


class ControlTokens:
    """The control tokens of a tokenizer: its special tokens, and the other added tokens that its
    chat template writes (`written`)."""

    def __init__(self, tokenizer: Any, written: frozenset[str] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._ids = {
            token.content: number
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special or token.content in written
        }
        # The longest first: a name may begin with another one.
        names = sorted(self._ids, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or "(?!)")
        # The token for unknown text says nothing, unless it has another role too.
        roles = Counter(tokenizer.special_tokens_map.values())
        unknown = tokenizer.unk_token
        self._telling = {
            number for name, number in self._ids.items() if name != unknown or roles[name] > 1
        }
        self._copy: Tokenizer | None = None
        self._original: dict[int, int] = {}

    def are_in(self, texts: Iterable[str]) -> bool:
        """Whether a text holds the name of a control token."""
        return any(self._names.search(text) for text in texts)

    def masked(self, text: str, found: list[str]) -> str:
        """The text with marks in place of names, which are appended to `found`. Raises
        RenderError for a text that holds characters of the marks."""
        if _RESERVED.search(text):
            raise RenderError(
                "the text holds names of control tokens and characters U+FDD0 to U+FDD5, which "
                "stand for them: remove these characters"
            )

        def mark(name: re.Match[str]) -> str:
            found.append(name[0])
            return _MARK.format(len(found) - 1)

        return self._names.sub(mark, text)

    def unmasked(self, text: str, found: Sequence[str]) -> str:
        """The text with the names in place of their marks."""
        return _MARKS.sub(lambda mark: found[int(mark[1])], text)

    def check_marks(self, text: str, found: Sequence[str]) -> None:
        """Raises RenderError where a text lacks one of the marks: a template that escapes them, as
        some do in JSON, would show the model something else."""
        present = {int(mark[1]) for mark in _MARKS.finditer(text)}
        for number, name in enumerate(found):
            if number not in present:
                raise RenderError(
                    f"the chat template leaves out or alters a text that holds {name}"
                )

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text that holds names of control tokens only where the template writes
        them. Raises RenderError where another control token comes out."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        self._check(ids, Counter(self._ids[name] for name in self._names.findall(text)))
        return ids

    def encode_masked(
        self, text: str, found: Sequence[str], *, add_special_tokens: bool
    ) -> list[int]:
        """The ids of a text with marks: names that are not masked are control tokens, and masked
        ones are text. Raises RenderError where the tokenizer cannot encode them as text."""
        copy = self._renamed()
        for name in dict.fromkeys(found):
            self._check_spelling(copy, name)
        written = Counter(self._ids[name] for name in self._names.findall(text))
        renamed = self._names.sub(lambda name: _NAME.format(self._ids[name[0]]), text)
        encoded = copy.encode(
            self.unmasked(renamed, found), add_special_tokens=add_special_tokens
        ).ids
        ids = [self._original.get(number, number) for number in encoded]
        self._check(ids, written)
        return ids

    def _check(self, ids: Sequence[int], written: Counter[int]) -> None:
        """Raises RenderError where ids hold more control tokens than the template writes and the
        tokenizer adds to every text."""
        told = Counter(number for number in ids if number in self._telling)
        more = told - written
        if more:
            # Some tokenizers begin or end every text with one.
            more -= Counter(self._tokenizer.encode(""))
        if more:
            name = next(name for name, number in self._ids.items() if number in more)
            raise RenderError(f"the text of the prompt would become the control token {name}")

    def _check_spelling(self, copy: Tokenizer, name: str) -> None:
        ids = copy.encode(name, add_special_tokens=False).ids
        spelled = copy.decode(ids, skip_special_tokens=False)
        if self._telling & set(ids) or spelled.strip() != name.strip():
            raise RenderError(
                f"the text holds {name}, and the tokenizer has no way to encode it as text"
            )

    def _renamed(self) -> Tokenizer:
        """A copy of the tokenizer with other names of its control tokens."""
        if self._copy is None:
            backend = getattr(self._tokenizer, "backend_tokenizer", None)
            if not isinstance(backend, Tokenizer):
                raise RenderError(
                    "the text holds names of control tokens, and a tokenizer written in Python "
                    "cannot encode them as text"
                )
            settings = json.loads(backend.to_str())
            for token in settings["added_tokens"]:
                if token["content"] in self._ids:
                    token["content"] = _NAME.format(token["id"])
            self._copy = Tokenizer.from_str(json.dumps(settings))
            # Renamed tokens get ids of their own, behind the vocabulary.
            numbers = {token["content"]: token["id"] for token in settings["added_tokens"]}
            self._original = {
                number: numbers[token.content]
                for number, token in self._copy.get_added_tokens_decoder().items()
            }
        return self._copy
