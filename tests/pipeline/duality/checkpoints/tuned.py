"""A second checkpoint to compare the embedded LM with."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from nabla_core.embedded.weights import folder


def tuned(path: Path, scale: float = 1.2) -> Path:
    """Save the embedded LM with its head scaled: a more peaked policy."""
    model = AutoModelForCausalLM.from_pretrained(folder("lm"))
    with torch.no_grad():
        model.lm_head.weight.mul_(scale)
    model.save_pretrained(path)
    for file in (*folder("lm").glob("tokenizer*"), folder("lm") / "chat_template.jinja"):
        shutil.copy(file, path)
    return path
