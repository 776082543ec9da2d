"""The embedded models' tokenizer: 24 tokens, one per character, nothing added when encoding.

Byte-level without merges, so that it is the same tokenizer whether it is loaded as a plain
`PreTrainedTokenizerFast` or as the Qwen2 tokenizer that `AutoTokenizer` insists on for this
model type (which would add an unknown token of its own, past the models' embeddings, were
there none). Characters outside the vocabulary, spaces among them, are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from nabla_core.embedded.task import DIGITS, OPERATORS, SEPARATOR

PAD, STOP, UNKNOWN = "<pad>", "<eos>", "<unk>"
TOKENS: tuple[str, ...] = (PAD, STOP, UNKNOWN, *DIGITS, *OPERATORS, SEPARATOR, *"=(),/.:")
IDS: dict[str, int] = {token: index for index, token in enumerate(TOKENS)}
PAD_ID, STOP_ID = IDS[PAD], IDS[STOP]
ZERO_ID = IDS["0"]
VOCABULARY = len(TOKENS)


def build() -> PreTrainedTokenizerFast:
    """The tokenizer: pad and eos distinct, no bos, no chat template."""
    core = Tokenizer(BPE(vocab=IDS, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return wrapped(core)


def wrapped(core: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with these special tokens, as transformers saves and loads it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=STOP,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def encode(text: str) -> list[int]:
    """Ids of a text of known characters; KeyError on another."""
    return [IDS[character] for character in text]


def decode(ids: Sequence[int]) -> str:
    """Text of a row of ids up to its first stop or pad token."""
    text = ""
    for index in ids:
        if index in (PAD_ID, STOP_ID):
            break
        text += TOKENS[index]
    return text
