"""Models of any size with random weights, to measure speed and memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from nabla_core import Runtime
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import build_engines, reader_for
from nabla_core.models.loading import language_model, reward_model
from nabla_core.types import Identity


@dataclass(frozen=True)
class Size:
    """Width and depth of a Qwen2 model."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int = 151_936


TINY = Size("tiny", 64, 3, 2, 2, 128)
HALF_B = Size("0.5B", 896, 24, 14, 2, 4864)
ONE_AND_A_HALF_B = Size("1.5B", 1536, 28, 12, 2, 8960)


def configuration(size: Size, layers: int | None = None, **extra: object) -> Qwen2Config:
    """A Qwen2 configuration. The last token of the vocabulary is the stop token, after the pad."""
    return Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=layers or size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        pad_token_id=size.vocabulary - 2,
        eos_token_id=size.vocabulary - 1,
        **extra,
    )


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words t0, t1, ... separated by spaces."""
    model = WordLevel({f"t{i}": i for i in range(vocabulary)}, unk_token="t0")
    words = Tokenizer(model)
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=f"t{vocabulary - 1}",
        pad_token=f"t{vocabulary - 2}",
    )


@dataclass
class Pair:
    """An LM and a reward model of one size, and their tokenizer."""

    lm: Qwen2ForCausalLM
    rm: Qwen2ForSequenceClassification
    tokenizer: PreTrainedTokenizerFast

    def engines(self, runtime: Runtime) -> Engines:
        """Engines with the reward model in both roles."""
        lm = language_model(self.lm, self.tokenizer, Identity("lm", "random"))
        rm = reward_model(self.rm, self.tokenizer, Identity("rm", "random"))
        reader = reader_for(rm, lm, 1.0)
        return build_engines(lm, reader, reader, runtime)


def random_pair(
    size: Size,
    *,
    device: str,
    dtype: torch.dtype,
    seed: int = 0,
    sharpness: float = 1.0,
    rm_layers: int | None = None,
) -> Pair:
    """Random models. `sharpness` scales the final norm of the LM, and so its logits."""
    torch.manual_seed(seed)
    lm = Qwen2ForCausalLM(configuration(size))
    rm = Qwen2ForSequenceClassification(configuration(size, rm_layers, num_labels=1))
    with torch.no_grad():
        lm.model.norm.weight.mul_(sharpness)
    models = [m.to(device=device, dtype=dtype).eval().requires_grad_(False) for m in (lm, rm)]
    return Pair(models[0], models[1], tokenizer(size.vocabulary))
