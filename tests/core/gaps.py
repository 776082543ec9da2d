"""Models whose tokenizer has gaps between its ids, and a stop token behind a gap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from tests.core.tiny import Family, characters, qwen2, save

SIZE = 20
# What the tokenizer names: the stop token is far behind its neighbours, as an added token is.
IDS = {"<pad>": 0, "<eos>": 16, "<unk>": 2, "a": 3, "b": 4, "c": 7, "d": 8, "e": 11, "f": 12}
STOP = 16
HOLES = sorted(set(range(SIZE)) - set(IDS.values()))


def tokenizer_with_gaps(folder: Path) -> Any:
    """A tokenizer of the letters a to f with the ids of `IDS`."""
    characters("abcdef").save_pretrained(folder)
    file = folder / "tokenizer.json"
    described = json.loads(file.read_text())
    described["model"]["vocab"] = IDS
    for token in described["added_tokens"]:
        token["id"] = IDS[token["content"]]
    file.write_text(json.dumps(described))
    return AutoTokenizer.from_pretrained(folder)


def family_with_gaps(root: Path) -> Family:
    """An LM that would rather write ids that are no token than any token, and reward models that
    value these ids most."""
    tokenizer = tokenizer_with_gaps(root / "tokenizer")
    config = {"eos_token_id": STOP, "pad_token_id": 0}
    torch.manual_seed(7)
    lm = Qwen2ForCausalLM(qwen2(SIZE, **config))
    with torch.no_grad():
        lm.lm_head.weight[HOLES] *= 6
    shape = qwen2(SIZE, num_labels=1, **config)
    rewards = {}
    for seed, role in enumerate(("judge", "guide")):
        torch.manual_seed(seed)
        model = Qwen2ForSequenceClassification(shape)
        with torch.no_grad():
            model.get_input_embeddings().weight[HOLES] *= 6
        rewards[role] = save(root / role, model, tokenizer, sharpen=3.0)
    return Family(save(root / "lm", lm, tokenizer), rewards["judge"], rewards["guide"])
