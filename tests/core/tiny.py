"""Tiny random models in Hugging Face folders, made by script, never found.

Two families, so that nothing passes by coincidence of shapes:

- `plain`: Qwen2 LM and reward models, one vocabulary, no chat template, the embedded tokenizer;
- `grouped`: a Llama LM (grouped-query attention, tied embeddings, a BOS token, a table padded
  beyond the tokenizer) and Qwen2 reward models with a larger vocabulary in another order and a
  chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from nabla_core import NablaConfig, Prompt, Reward, Runtime, load_engines
from nabla_core.embedded import tokenizer as embedded_tokenizer
from nabla_core.engines.base import Engines
from nabla_core.model_config import LM

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
LETTERS = "abcdefghijklmnop0123456789+-*; "


@dataclass(frozen=True)
class Family:
    """Folders of an LM and two reward models that go together."""

    lm: Path
    judge: Path
    guide: Path

    def engines(
        self, runtime: Runtime | None = None, *, two: bool = True, coverage: float = 0.9
    ) -> Engines:
        """The product's engines; with `two` the guide is a model of its own."""
        guide = str(self.guide) if two else None
        reward = Reward(judge=str(self.judge), guide=guide, min_coverage=coverage)
        return load_engines(LM(str(self.lm)), reward, runtime or Runtime(device="cpu"))

    def raw(self, role: str) -> Any:
        """The model as transformers loads it, for literal checks."""
        auto = AutoModelForCausalLM if role == "lm" else AutoModelForSequenceClassification
        return auto.from_pretrained(getattr(self, role)).eval().requires_grad_(False)

    def tokenizer(self, role: str) -> Any:
        return AutoTokenizer.from_pretrained(getattr(self, role))


def characters(
    letters: str, *, bos: bool = False, more: Sequence[str] = (), template: str | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer of one token per character; special tokens first, `more` after them."""
    special = ["<pad>", "<eos>", "<unk>", *(["<bos>"] if bos else []), *more]
    spelled = [
        pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(c) for c in letters
    ]
    tokens = [*special, *(word for ((word, _),) in spelled)]
    core = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", special.index("<bos>"))]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        bos_token="<bos>" if bos else None,
        additional_special_tokens=list(more),
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = template
    return made


def qwen2(size: int, **changes: Any) -> Qwen2Config:
    """Two layers, two heads, hidden size 32, weights large enough to tell contexts apart."""
    settings: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.25,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "dtype": "float32",
    }
    return Qwen2Config(**settings | changes)


def save(path: Path, model: Any, tokenizer: Any, *, sharpen: float = 1.0) -> Path:
    """Write a model folder; `sharpen` scales the output layer so that outputs differ clearly."""
    head = getattr(model, "score", None) or model.get_output_embeddings()
    with torch.no_grad():
        head.weight.mul_(sharpen)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def reward_folder(path: Path, config: Any, tokenizer: Any, *, seed: int) -> Path:
    torch.manual_seed(seed)
    return save(path, Qwen2ForSequenceClassification(config), tokenizer, sharpen=3.0)


def plain(root: Path) -> Family:
    tokenizer = embedded_tokenizer.build()
    size = len(tokenizer)
    torch.manual_seed(2)
    lm = save(root / "lm", Qwen2ForCausalLM(qwen2(size)), tokenizer)
    small = qwen2(size, hidden_size=16, intermediate_size=24, num_labels=1)
    judge = reward_folder(root / "judge", small, tokenizer, seed=1)
    guide = reward_folder(root / "guide", qwen2(size, num_labels=1), tokenizer, seed=2)
    return Family(lm, judge, guide)


def grouped(root: Path) -> Family:
    tokenizer = characters(LETTERS, bos=True)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 5,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=3,
        dtype="float32",
    )
    lm = save(root / "lm", LlamaForCausalLM(config), tokenizer)
    larger = characters(LETTERS[::-1] + "\n<|>", bos=True, more=ROLES, template=CHAT)
    shape = qwen2(
        len(larger),
        num_labels=1,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=96,
    )
    judge = reward_folder(root / "judge", shape, larger, seed=4)
    guide = reward_folder(root / "guide", shape, larger, seed=5)
    return Family(lm, judge, guide)


def prompts(count: int) -> list[Prompt]:
    """Prompts of different lengths that both families can read."""
    texts = [f"{n}+{n * n}-{'7*' * (n % 5)}{n}" for n in range(count)]
    return [Prompt.of(text, id=f"p{n}") for n, text in enumerate(texts)]


def one_hots(tokens: Sequence[int], size: int) -> Tensor:
    """float32 `[T, size]`, a leaf that gradients can be taken of."""
    return torch.nn.functional.one_hot(torch.tensor(tokens), size).float().requires_grad_()


def decisions(trace: Any) -> tuple[Any, ...]:
    """What a trace decided, without its numbers."""
    changes = [(r.position, r.from_token, r.to_token, r.accepted) for r in trace.revisions]
    return trace.tokens, trace.finish_reason, changes


def greedy_search(**changes: Any) -> NablaConfig:
    """Settings under which tiny random models revise a lot."""
    from nabla_core import DTO, Sampling, Select  # noqa: PLC0415

    settings: dict[str, Any] = {
        "rollout": Sampling(0),
        "resample": Sampling(0),
        "dto": DTO(learning_rate=0.3),
        "select": Select(0.98),
    }
    return NablaConfig(**settings | changes)
