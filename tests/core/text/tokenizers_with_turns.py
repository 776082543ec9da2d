"""Tokenizers of the three usual kinds, with a chat template and control tokens."""

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = ["hello world, what is one and one? user system assistant im_start im_end s <>|/\n"] * 3
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INSTRUCT = (
    "<s>{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)


def wrapped(core: Tokenizer, template: str, **special: str) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, clean_up_tokenization_spaces=False, **special
    )
    made.chat_template = template
    return made


def byte_level(*, special: bool = True, template: str = CHATML) -> PreTrainedTokenizerFast:
    """As Qwen's: control tokens behind the vocabulary."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        core.add_tokens([AddedToken(name, special=special, normalized=False)])
    core.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return wrapped(core, template, eos_token="<|endoftext|>")


def _pieces(core: Tokenizer) -> Tokenizer:
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return core


def sentence_pieces() -> PreTrainedTokenizerFast:
    """As Llama 2's: control tokens in the vocabulary, and a space before the first word."""
    letters = sorted(set("".join(TEXTS)) | {"▁", "[", "]", "I", "N", "S", "T"})
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *letters, "▁h", "▁w"]
    vocab = {token: n for n, token in enumerate(tokens)}
    merges = [("▁", "h"), ("▁", "w")]
    core = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    made = _pieces(core)
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return wrapped(made, INSTRUCT, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def unigram() -> PreTrainedTokenizerFast:
    """As T5's: the model itself knows the names of its control tokens."""
    letters = sorted(set("".join(TEXTS)) | {"▁", "[", "]", "I", "N", "S", "T"})
    pieces = [("<unk>", 0.0), ("<s>", -1.0), ("</s>", -1.0), *((c, -3.0) for c in letters)]
    core = _pieces(Tokenizer(models.Unigram(pieces, unk_id=0)))
    core.normalizer = normalizers.NFKC()
    core.add_special_tokens(["<unk>", "<s>", "</s>"])
    return wrapped(core, INSTRUCT, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
