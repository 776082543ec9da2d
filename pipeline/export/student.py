"""The tokenizer of the student: does its template let a model learn to stop?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePath
from typing import Any

from nabla_core.errors import ModelError
from nabla_core.text.chat_template import render
from nabla_core.text.encoding import encode_plain, encoder
from nabla_core.text.template_check import check_tools
from pipeline.errors import InputError

# No model writes it, and no template changes it.
_PLACEHOLDER = "⟦answer⟧"
_QUESTION = [{"role": "user", "content": "question"}]

Tools = Sequence[Mapping[str, Any]] | None
Messages = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Student:
    """A tokenizer with the ids that end a response. `name` is what errors call it."""

    name: str
    tokenizer: Any
    stop_ids: frozenset[int]
    fingerprint: str

    def facts(self) -> dict[str, Any]:
        """What export.json says of it."""
        template = self.tokenizer.chat_template
        digest = sha256(template.encode()).hexdigest() if isinstance(template, str) else None
        return {
            "name": without_path(self.name),
            "fingerprint": self.fingerprint,
            "stop_ids": sorted(self.stop_ids),
            "chat_template": digest,
        }

    def stops(self, tokens: Sequence[int]) -> bool:
        """Whether a response ends in a stop token."""
        return bool(tokens) and tokens[-1] in self.stop_ids

    def text(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens, special tokens left out unless `special`."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=not special)
        return text

    def prompt_ids(self, rendered: str) -> list[int]:
        """The ids of a rendered prompt, as the LM read them."""
        # As `nabla_core.text.templates.render_for_lm` encodes it.
        if self.tokenizer.chat_template:
            return list(self.tokenizer.encode(rendered, add_special_tokens=False))
        return encode_plain(self.tokenizer, encoder(self.tokenizer), rendered)[0]

    def prompt_text(self, rendered: str) -> str:
        """A rendered prompt as a text that this tokenizer encodes to the ids that the LM read:
        without the first token where the tokenizer adds it again."""
        bos = self.tokenizer.bos_token
        if (
            bos
            and rendered.startswith(bos)
            and self.tokenizer("").input_ids[:1] == [self.tokenizer.bos_token_id]
        ):
            return rendered.removeprefix(bos)
        return rendered

    def check_template(self) -> None:
        """Raises InputError where the chat template does not end an answer with a stop token: a
        student would be trained without it, and never stop."""
        if not self.tokenizer.chat_template:
            raise InputError(
                f"{self.name} has no chat template, which conversations need: set tokenizer.path "
                "to a model that has one, or export layout=text or format=tokens"
            )
        answer = {"role": "assistant", "content": _PLACEHOLDER}
        text = self._render([*_QUESTION, answer], "a question and an answer")
        after = text.rpartition(_PLACEHOLDER)[2]
        if _PLACEHOLDER not in text:
            raise InputError(f"{self.name}: the chat template leaves the answer out")
        ids = self.tokenizer.encode(after, add_special_tokens=False)
        spoken = [i for i in ids if self.text([i], special=True).strip()]
        if not spoken or not self.stop_ids.issuperset(spoken):
            stops = ", ".join(repr(self.text([i], special=True)) for i in sorted(self.stop_ids))
            raise InputError(
                f"{self.name}: its chat template ends an answer with {after!r}, and the stop "
                f"tokens are {stops}: a student of it would not learn to stop. Set tokenizer.path "
                "to a model whose template ends answers with a stop token, or export layout=text "
                "or format=tokens"
            )

    def check_tools(self) -> None:
        """Raises InputError where the chat template leaves out tools of prompts: a student would be
        trained without knowing them."""
        try:
            check_tools(self.tokenizer, self.name)
        except ModelError as error:
            raise InputError(f"{error}; or export layout=text or format=tokens") from error

    def check_rendered(self, messages: Messages, where: str, tools: Tools = None) -> None:
        """Raises InputError where the template refuses a conversation or leaves its answer out."""
        text = self._render(messages, where, tools)
        if messages[-1]["content"].strip() not in text:
            raise InputError(
                f"{where}: the chat template of {self.name} does not render the response as it is"
            )

    def _render(self, messages: Messages, what: str, tools: Tools = None) -> str:
        try:
            return render(self.tokenizer, list(messages), tools=tools)
        except Exception as error:  # a template is a program, with errors of its own
            reason = f"{type(error).__name__}: {error}"
            raise InputError(
                f"{what}: the chat template of {self.name} cannot render it: {reason}"
            ) from error


def without_path(model: str) -> str:
    """A model as provenance names it: a hub id as it is, a folder by its last component."""
    is_hub_id = not model.startswith((".", "~", "/")) and model.count("/") <= 1
    return model if is_hub_id else PurePath(model).name


def load_student(path: str, revision: str | None) -> Student:
    """The tokenizer of a model folder or hub id. Raises ModelError, InputError."""
    # They take seconds to import, and not every format needs them.
    from transformers import GenerationConfig  # noqa: PLC0415

    from nabla_core.embedded.weights import model_location  # noqa: PLC0415
    from nabla_core.models.hub import cache_without_network  # noqa: PLC0415
    from nabla_core.models.pretrained import load_tokenizer  # noqa: PLC0415
    from nabla_core.text.fingerprint import fingerprint  # noqa: PLC0415

    location = model_location(path, "lm")
    tokenizer = load_tokenizer(location, revision)
    try:
        with cache_without_network(location):
            declared = GenerationConfig.from_pretrained(location, revision=revision).eos_token_id
    except OSError:  # a folder of a tokenizer alone
        declared = None
    ids = declared if isinstance(declared, list) else [declared]
    stop = frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
    if not stop:
        raise InputError(f"tokenizer {path} declares no stop token")
    return Student(path, tokenizer, stop, fingerprint(tokenizer))
