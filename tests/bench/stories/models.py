"""Tokenizer and models of the stories: one token per word; Llama with hidden size 64, fp32."""

from __future__ import annotations

import re
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from nabla_core.embedded.recipe.models import stand_on
from nabla_core.embedded.tokenizer import PAD, PAD_ID, STOP, STOP_ID, UNKNOWN, with_special_tokens
from tests.bench.stories import task

LM_LAYERS = 4
RM_LAYERS = 7


def _words() -> list[str]:
    """Every word of the task, numbers first: the id of a number is the number plus an offset."""
    sentences = [t for templates in task.TEMPLATES.values() for t in templates]
    plain = re.sub(
        r"{\w+}", " ", " ".join([*sentences, task.QUESTION, "has", *CHANGES, task.SEPARATOR])
    )
    drawn = (*task.DAYS, *task.OTHERS, *task.THINGS, *(w for pair in task.PRONOUNS for w in pair))
    return list(dict.fromkeys([*(str(n) for n in range(LARGEST_WORD + 1)), *plain.split(), *drawn]))


CHANGES = ("+0", "*2", "/2", *(f"{sign}{n}" for sign in "+-" for n in range(1, 10)))
LARGEST_WORD = 2 * task.LARGEST
TOKENS: tuple[str, ...] = (PAD, STOP, UNKNOWN, *_words())
IDS: dict[str, int] = {word: index for index, word in enumerate(TOKENS)}


def encode(text: str) -> list[int]:
    """Token ids of a text. Raises KeyError on an unknown word."""
    return [IDS[word] for word in text.split()]


def tokenizer() -> PreTrainedTokenizerFast:
    """Splits at spaces. Pad and eos differ; there is no bos and no chat template."""
    core = Tokenizer(WordLevel(IDS, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return with_special_tokens(core)


def _config(layers: int, **extra: Any) -> LlamaConfig:
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        initializer_range=0.1,
        pad_token_id=PAD_ID,
        bos_token_id=None,
        eos_token_id=STOP_ID,
        dtype="float32",
        **extra,
    )
    config._attn_implementation = "sdpa"
    return config


def new_foundation() -> LlamaForCausalLM:
    """An LM with random weights. Its embeddings are large enough to remain readable above its
    layers (see nabla_core.embedded.recipe.models.new_foundation).

    Queries start equal to keys, so that a token first attends to tokens equal to itself. A day in
    the response must attend to the same day in the prompt to find its sentence. With independent
    queries the LM learns that late: .60 of the changes are right after 400 steps of short stories,
    with equal ones .97.
    """
    lm = LlamaForCausalLM(_config(LM_LAYERS))
    with torch.no_grad():
        for layer in lm.model.layers:
            layer.self_attn.q_proj.weight.copy_(layer.self_attn.k_proj.weight)
    torch.nn.init.normal_(lm.model.embed_tokens.weight, std=0.5)
    return lm


def new_rm(lm: LlamaForCausalLM) -> LlamaForSequenceClassification:
    """A reward model on a frozen LM: embeddings and layers of the LM, then three new layers that
    start as the identity (see nabla_core.embedded.recipe.models.new_rm)."""
    rm = LlamaForSequenceClassification(_config(RM_LAYERS, num_labels=1))
    stand_on(rm, lm)
    return rm
