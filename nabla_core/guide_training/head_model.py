"""Head guides as models: a causal LM of transformers whose output layer predicts advantages."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from nabla_core.errors import HeadError, ModelError
from nabla_core.guides.head import KIND_KEY
from nabla_core.models.loading import LanguageModel
from nabla_core.models.pretrained import load_pretrained
from nabla_core.models.vocab import VocabularyMap


def new_head(path: str, *, revision: str | None = None) -> Any:
    """A head in fp32 on the backbone of `path`, which is a reward model, an LM or a head.

    The output layer is untied from the embeddings. It starts at zero, so that every advantage
    is predicted as 0 (or see `start_from_lm`); the output layer of a head is kept, to train it
    further. Raises ModelError naming the path.
    """

    def output_layer(model: Any) -> set[str]:
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise HeadError(f"{path}: its output layer is a {type(head).__name__}, not Linear")
        return {name for name, module in model.named_modules() if module is head}

    model = load_pretrained(
        AutoModelForCausalLM,
        path,
        purpose="a backbone for a head",
        initialised=output_layer,
        unused={"score"},
        revision=revision,
        dtype=torch.float32,
        # Tied to the embeddings, the layer could not start at zero, and training would move both.
        tie_word_embeddings=False,
    )
    head = model.get_output_embeddings()
    if getattr(model.config, KIND_KEY, None) != "head":
        nn.init.zeros_(head.weight)
        if head.bias is not None:  # not trained: `HeadTrainee.predict` reads the weight alone
            nn.init.zeros_(head.bias)
        setattr(model.config, KIND_KEY, "head")
    return model


def start_from_lm(
    output: nn.Linear, lm: LanguageModel, vocabulary: VocabularyMap, path: str
) -> None:
    """Copy the rows of the LM's output layer into that of a new head at `path`, by `vocabulary`; a
    layer that is not at zero is that of a trained head and stays.

    Raises ModelError where the head's hidden states have another size than the LM's.
    """
    if output.weight.any():
        return
    if output.in_features != lm.head.in_features:
        raise ModelError(
            f"start.output: lm needs the LM's hidden size: {path} has {output.in_features}, "
            f"{lm.source} {lm.head.in_features}; use start.output: zero"
        )
    known = (vocabulary.ids >= 0).nonzero().squeeze(-1)
    rows = lm.head.weight.detach().cpu()[known].to(output.weight.dtype)
    with torch.no_grad():
        output.weight[vocabulary.ids[known]] = rows.to(output.weight.device)
