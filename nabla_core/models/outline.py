"""What is known of a model before its weights are read: config, tokenizer, and the names and shapes
of its tensors. It takes no longer for a large model than for a small one.

Loading checks more (`models.loading`): it runs the model on a few tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from nabla_core.errors import HeadError, ModelError
from nabla_core.models.flops import Shape
from nabla_core.models.folder import adapter_base
from nabla_core.models.layers import check_layers, context_length
from nabla_core.models.memory import Sizes
from nabla_core.models.pretrained import load_config, load_tokenizer
from nabla_core.models.vocab import require_rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Outline:
    """A model without its weights.

    `context` is the longest sequence in tokens, `table` the rows of its embedding table, `outputs`
    those of its output layer, `parameters` the number of weights of the whole model. `source` is
    its folder or hub id. `tokenizer` is None in a `sketch`.
    """

    source: str
    tokenizer: Any = field(repr=False)
    context: int
    table: int
    outputs: int
    parameters: int
    shape: Shape
    sizes: Sizes


def outline(
    path: str,
    revision: str | None,
    kind: Literal["lm", "reward", "head"],
    *,
    new_output: bool = False,
) -> Outline:
    """The outline of a model that is to be loaded as an LM, a reward model or a head, or with
    `new_output` as the backbone of one.

    Raises ModelError naming the path where that will fail: no such folder, no tokenizer, an unknown
    type, more than one label, weights that are missing, torn or those of another kind of model.
    """
    tokenizer = load_tokenizer(path, revision)
    config = load_config(path, revision)
    if kind == "reward" and config.num_labels != 1 and not new_output:
        raise HeadError(f"{path}: a reward model has one label, this one has {config.num_labels}")
    model = empty_model(path, config, kind)
    head = getattr(model, "score", None) if kind == "reward" else model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        found = "no linear layer `score`" if head is None else f"a {type(head).__name__}, no Linear"
        raise HeadError(f"{path}: its output layer is {found}")
    check_layers(model, path)
    table = model.get_input_embeddings().weight.size(0)
    require_rows(tokenizer, table, path)
    names = tensor_names(path)
    (output,) = (name for name, module in model.named_modules() if module is head)
    tied = kind != "reward" and getattr(config.get_text_config(), "tie_word_embeddings", False)
    stored = names is None or any(name.endswith(f"{output}.weight") for name in names)
    if not (stored or tied or new_output):
        purpose = "a reward model" if kind == "reward" else "a causal LM"
        raise ModelError(f"{path} is not {purpose}: its weights lack {output}.weight")
    return _outline(path, tokenizer, model, config, head.out_features)


def sketch(path: str, config: Any, kind: Literal["lm", "reward", "head"]) -> Outline:
    """The outline of a model of which nothing is known but its config. Raises ModelError where
    there is no such model."""
    model = empty_model(path, config, kind)
    outputs = 1 if kind == "reward" else config.get_text_config().vocab_size
    return _outline(path, None, model, config, outputs)


def _outline(path: str, tokenizer: Any, model: Any, config: Any, outputs: int) -> Outline:
    return Outline(
        source=path,
        tokenizer=tokenizer,
        context=context_length(model),
        table=model.get_input_embeddings().weight.size(0),
        outputs=outputs,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        shape=Shape.of(model.base_model, config, outputs),
        sizes=Sizes.of(config, outputs),
    )


def empty_model(path: str, config: Any, kind: str) -> Any:
    """The model with parameters that have shapes and no values. Raises ModelError."""
    auto: Any = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            return auto.from_config(config)
    # Any: the model's own code runs.
    except Exception as error:
        raise ModelError(f"{path}: cannot be a {auto.__name__[13:]}: {error}") from error


def tensor_names(path: str) -> set[str] | None:
    """The tensors in the safetensors files of a folder, from their headers; None for a hub id, an
    adapter, and weights in another format. Raises ModelError where the folder has no weights.

    `load_config` has found the files whole.
    """
    folder = Path(path)
    if not folder.is_dir():
        return None
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        if list(folder.glob("*.bin")) or adapter_base(path) is not None:
            return None
        raise ModelError(f"{path}: no weights in this folder (model.safetensors)")
    names: set[str] = set()
    for file in files:
        with safe_open(file, "pt") as opened:
            names.update(opened.keys())
    return names
