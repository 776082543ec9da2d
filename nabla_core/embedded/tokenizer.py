"""The tokenizer of the embedded models: 24 tokens, one for each character. Encoding adds none.

It is byte-level without merges, so that it stays the same when `AutoTokenizer` loads it as a
Qwen2 tokenizer, as it does for this model type. It has an unknown token, because the Qwen2
tokenizer would otherwise add one with an id past the end of the models' embeddings. Characters
outside the vocabulary, such as spaces, are dropped.
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
# Of the LM alone. Turns follow one another as `nabla_core.text.templates` joins them without a
# template; the answer ends in the stop token, which a trainer would not learn otherwise. The block
# `generation` marks what a trainer that is given `messages` takes the loss of.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + eos_token }}{%- endgeneration -%}"
    "{%- else -%}{{ message['content'] }}{%- endif -%}"
    "{%- if not loop.last and loop.nextitem['role'] != 'assistant' -%}"
    "{{ '\n\n' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
VOCABULARY = len(TOKENS)


def build() -> PreTrainedTokenizerFast:
    """The tokenizer: pad and eos distinct, no bos, no chat template (the LM's gets one)."""
    core = Tokenizer(BPE(vocab=IDS, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return with_special_tokens(core)


def with_special_tokens(core: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with these special tokens, as transformers saves and loads it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=STOP,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def encode(text: str) -> list[int]:
    """Ids of a text. Raises KeyError on a character outside the vocabulary."""
    return [IDS[character] for character in text]


def decode(ids: Sequence[int]) -> str:
    """The text of ids up to the first stop or pad token."""
    text = ""
    for index in ids:
        if index in (PAD_ID, STOP_ID):
            break
        text += TOKENS[index]
    return text
