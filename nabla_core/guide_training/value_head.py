"""A value head in training: the frozen LM reads each example once, and the network on its hidden
states is what is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nabla_core.errors import ModelError
from nabla_core.guide_training.examples import Batch
from nabla_core.guide_training.settings import OutputLayer
from nabla_core.guides.value_head import ValueHeadGuide, load_value_head, require_lm
from nabla_core.model_config import Runtime
from nabla_core.models.forward import Reading, read
from nabla_core.models.loading import LanguageModel
from nabla_core.models.value_head import ValueHead, ValueHeadConfig
from nabla_core.text.fingerprint import fingerprint
from nabla_core.types import Identity

# The ids of a response, and the indices of its positions in them.
_Key = tuple[tuple[int, ...], tuple[int, ...]]


class ValueHeadTrainee:
    """Predicts the value of each token at position i from the LM's hidden state at i - 1. See
    `trainees.Trainee`.

    The LM does not change, so what it makes of an example is kept, in main memory: a hidden state
    of D numbers for each scored position.
    """

    def __init__(self, model: ValueHead, lm: LanguageModel, name: str) -> None:
        self.model: Any = model
        self._lm, self._name = lm, name
        self._hidden: dict[_Key, Tensor] = {}

    @property
    def output(self) -> nn.Linear:
        layer: nn.Linear = self.model.output
        return layer

    def predict(self, batch: Batch, *, differentiable: bool = True) -> tuple[Tensor, None]:
        hidden = self._read(batch).to(self.model.device, self.model.dtype)
        with torch.set_grad_enabled(differentiable):
            features = self.model.features(hidden)  # [N, D]
            # The rows of the candidates alone: a product with the whole layer would be [N, V].
            rows = self.model.output.weight[batch.tokens]
            return torch.einsum("nd,nkd->nk", features, rows.to(features.dtype)), None

    def guide(self, lm: LanguageModel, min_coverage: float, runtime: Runtime) -> ValueHeadGuide:
        return ValueHeadGuide(lm, self.model, Identity(self._name, "in training"))

    def _read(self, batch: Batch) -> Tensor:
        """The LM's hidden states `[N, D]` at the tokens before the positions, in fp32."""
        keys = _keys(batch)
        unread = [key for key in dict.fromkeys(keys) if key not in self._hidden]
        if unread:
            device = self._lm.device
            # Autocast is for what is trained: the LM reads as it does in a search.
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                readings = [Reading(ids) for ids, _ in unread]
                hidden = read(self._lm, readings, gradient=False, return_cache=False).hidden
            for row, key in enumerate(unread):
                before = [index - 1 for index in key[1]]
                self._hidden[key] = hidden[row, before].float().cpu()
        # Positions of a batch are sorted by response.
        return torch.cat([self._hidden[key] for key in keys])


def _keys(batch: Batch) -> list[_Key]:
    """What the hidden states of each response of a batch are kept under; of those with positions,
    in order."""
    indices: dict[int, list[int]] = {}
    for row, index in zip(batch.row.tolist(), batch.index.tolist(), strict=True):
        indices.setdefault(row, []).append(index)
    ids, last = batch.ids.tolist(), batch.last.tolist()
    return [(tuple(ids[row][: last[row] + 1]), tuple(found)) for row, found in indices.items()]


def new_value_head(lm: LanguageModel, *, width: int, output: OutputLayer, seed: int) -> ValueHead:
    """A value head on `lm` in fp32 that predicts every advantage as 0.

    `output` `zero`: the output layer is 0 and the features are drawn from `seed`. `lm`: the output
    layer is the LM's and the features are 0, so that a token that was never tried follows those
    that the LM takes for alike.
    """
    torch.manual_seed(seed)
    size = lm.head.in_features
    config = ValueHeadConfig(
        hidden_size=size,
        vocab_size=lm.head.out_features,
        width=width,
        lm_name=lm.identity.name,
        lm_revision=lm.identity.revision,
        lm_tokenizer=fingerprint(lm.tokenizer),
    )
    head = ValueHead(config)
    for layer in (head.inner, head.project):
        if layer is not None:
            layer.reset_parameters()
    with torch.no_grad():
        if output == "lm":
            head.output.weight.copy_(lm.head.weight)
            head.project.weight.zero_()
        else:
            head.output.weight.zero_()
            if not width:
                # A product of two matrices is one: the layer reads the hidden state as it is.
                head.project.weight.copy_(torch.eye(size))
    return head.to(lm.device)


def open_value_head(
    path: str | None,
    lm: LanguageModel,
    *,
    width: int,
    output: OutputLayer,
    revision: str | None,
    seed: int,
) -> ValueHeadTrainee:
    """A value head to train on `lm`: a new one, or with a `path` the one there, to train it
    further. Raises ModelError, also where that one belongs to another LM."""
    if path is None:
        head = new_value_head(lm, width=width, output=output, seed=seed)
        return ValueHeadTrainee(head, lm, lm.identity.name)
    head, identity = load_value_head(path, revision=revision, device=lm.device, dtype=torch.float32)
    require_lm(head.config, identity.name, lm.identity, lm.source)
    if head.config.width != width:
        raise ModelError(
            f"{path} has a hidden layer of {head.config.width} units, and value_head.width is "
            f"{width}: set it to that of the value head that is trained further"
        )
    head.requires_grad_(True)
    return ValueHeadTrainee(head, lm, path)
