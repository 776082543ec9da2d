"""Guides in training: a reward model whose gradient is trained, and a head. `value_head` has the
third kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from nabla_core.engines.loading import AdvantageGuide, head_guide_for, reader_for
from nabla_core.errors import HeadError, ModelError
from nabla_core.guide_training.examples import Batch, Example, GuideEncoder, ScoredPosition
from nabla_core.guide_training.head_model import new_head
from nabla_core.guide_training.settings import Kind, Optimise
from nabla_core.guides.head import KIND_KEY, HeadGuide
from nabla_core.model_config import Runtime, ToolsFor
from nabla_core.models.loading import (
    LanguageModel,
    embed,
    embedding_scale,
    language_model,
    reward_model,
)
from nabla_core.models.pooling import pad_token, pool_index
from nabla_core.models.pretrained import LM_HEADS, load_pretrained
from nabla_core.models.readers import Reader
from nabla_core.types import Identity


class Trainee(Protocol):
    """A guide in training. `model` is a transformers model in fp32."""

    model: Any

    @property
    def output(self) -> nn.Linear:
        """The output layer. Predictions are proportional to its weight."""

    def predict(self, batch: Batch, *, differentiable: bool = True) -> tuple[Tensor, Tensor | None]:
        """The value of each candidate, `[N, K]`, and the reward of each response, `[R]`, None for
        a head.

        Differences between the candidates of a position are advantages; a constant of the
        position has no meaning. With `differentiable`, both can be differentiated with respect
        to the weights.
        """

    def guide(
        self, lm: LanguageModel, min_coverage: float, runtime: Runtime
    ) -> Reader | AdvantageGuide:
        """The guide that engines use for `lm`. It shares this model's weights."""


@contextmanager
def scaled(trainee: Trainee, factor: float) -> Iterator[None]:
    """Multiply the trainee's predictions by `factor` in the block.

    A copy of the weight is put back afterwards: dividing again would leave rounding errors.
    """
    weight = trainee.output.weight
    original = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(factor)
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(original)


class GradientTrainee:
    """Predicts `E @ d reward / d e_i`, the first-order effect of each token at position i on the
    reward. Training it takes a second derivative."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model = model
        self._tokenizer, self._name = tokenizer, name

    @property
    def output(self) -> nn.Linear:
        layer: nn.Linear = self.model.score
        return layer

    def predict(self, batch: Batch, *, differentiable: bool = True) -> tuple[Tensor, Tensor | None]:
        table, scale = self.model.get_input_embeddings().weight, embedding_scale(self.model)
        # The prediction is itself a gradient, so autograd runs even where none is wanted after.
        with torch.enable_grad():
            embeddings = embed(table, scale, batch.ids)  # [R, L, D]
            if not embeddings.requires_grad:  # the embeddings are frozen
                embeddings.requires_grad_()
            body = self.model.base_model
            hidden = body(inputs_embeds=embeddings, use_cache=False).last_hidden_state
            ends = hidden[torch.arange(len(batch.ids)), self._pooled(batch)]
            rewards = self.model.score(ends).squeeze(-1)  # [R]
            # `create_graph` makes the gradient a function of the weights that the loss can be
            # differentiated through (double backward). Rewards may be summed: each depends on
            # its own row of embeddings alone.
            (gradient,) = torch.autograd.grad(
                rewards.sum(), embeddings, create_graph=differentiable
            )
        # Rows of E @ d reward / d e_i for the candidates alone, [N, K], and not for all V tokens.
        at_positions = gradient[batch.row, batch.index]  # [N, D]
        candidates = embed(table, scale, batch.tokens).to(at_positions.dtype)
        values = torch.einsum("nd,nkd->nk", at_positions, candidates)
        return (values, rewards) if differentiable else (values.detach(), rewards.detach())

    def _pooled(self, batch: Batch) -> Tensor:
        """The index of the token that each row's reward is read at, int64 `[R]`."""
        pad = pad_token(self.model)
        ends = zip(batch.ids.tolist(), batch.last.tolist(), strict=True)
        return torch.tensor([pool_index(ids[: last + 1], pad) for ids, last in ends])

    def guide(
        self, lm: LanguageModel, min_coverage: float, runtime: Runtime
    ) -> Reader | AdvantageGuide:
        model = reward_model(self.model, self._tokenizer, Identity(self._name, "in training"))
        return reader_for(model, lm, min_coverage)


class HeadTrainee:
    """Predicts the value of each token at position i from the hidden state at i - 1, with one row
    of the output layer for each token."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model = model
        self._tokenizer, self._name = tokenizer, name

    @property
    def output(self) -> nn.Linear:
        layer: nn.Linear = self.model.get_output_embeddings()
        return layer

    def predict(self, batch: Batch, *, differentiable: bool = True) -> tuple[Tensor, Tensor | None]:
        with torch.set_grad_enabled(differentiable):
            body = self.model.base_model
            hidden = body(input_ids=batch.ids, use_cache=False).last_hidden_state
            before = hidden[batch.row, batch.index - 1]  # [N, D]
            # The rows of the candidates alone: a product with the whole layer would be [N, V].
            rows = self.model.get_output_embeddings().weight[batch.tokens]
            return torch.einsum("nd,nkd->nk", before, rows.to(before.dtype)), None

    def guide(
        self, lm: LanguageModel, min_coverage: float, runtime: Runtime
    ) -> Reader | AdvantageGuide:
        model = language_model(self.model, self._tokenizer, Identity(self._name, "in training"))
        return head_guide_for(model, lm, min_coverage, runtime)


def open_trainee(
    kind: Kind,
    path: str,
    tokenizer: Any,
    optimise: Optimise,
    *,
    revision: str | None,
    seed: int,
    adapt: Callable[[Trainee], None] | None = None,
) -> Trainee:
    """A guide of `kind` that starts from the model at `path`.

    The model may be a reward model, an LM or a head; a missing output layer is drawn from
    `seed`. Layers are frozen as `optimise` says, then `adapt` may insert adapters. Raises
    ModelError, for a gradient guide also where its gradient cannot be differentiated.
    """
    torch.manual_seed(seed)
    trainee: Trainee
    if kind == "head":
        trainee = HeadTrainee(new_head(path, revision=revision), tokenizer, path)
    else:
        trainee = GradientTrainee(
            open_classifier(path, revision, attention=optimise.attention, purpose="a guide"),
            tokenizer,
            path,
        )
    freeze(trainee.model, optimise, path)
    if adapt:
        adapt(trainee)
    if kind == "gradient":
        _check_double_backward(trainee, path, optimise.attention)
    return trainee


def guide_encoder(
    kind: Kind,
    trainee: Trainee,
    tokenizer: Any,
    lm: LanguageModel,
    coverage: float,
    tools: ToolsFor = "shown",
) -> GuideEncoder:
    """The encoder of the LM's responses for this trainee. `tools`: whether it reads the tools of
    prompts. Raises VocabularyError where their vocabularies share less than `coverage` of the LM's
    tokens."""
    guide = trainee.guide(lm, coverage, Runtime())
    match guide:
        case Reader():
            context = guide.rm.context
        case HeadGuide():
            context = guide.head.context
        case _:
            context = lm.context
    return GuideEncoder(
        tokenizer=tokenizer,
        vocabulary=guide.vocabulary,
        stop=lm.stop,
        context=context,
        kind=kind,
        tools=tools,
    )


def open_classifier(
    path: str,
    revision: str | None,
    *,
    attention: str,
    purpose: str,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A sequence classifier with one label on the backbone of a reward model, an LM or a head; a
    missing output layer is drawn at random. `purpose` as in `load_pretrained`. Raises ModelError.
    """

    def score_layer(model: Any) -> set[str]:
        if not isinstance(getattr(model, "score", None), nn.Linear):
            raise HeadError(f"{path}: no linear layer `score` to read a reward from")
        return {"score"}

    model = load_pretrained(
        AutoModelForSequenceClassification,
        path,
        purpose=purpose,
        initialised=score_layer,
        unused=LM_HEADS,
        revision=revision,
        num_labels=1,
        dtype=dtype,
        attn_implementation=attention,
    )
    if hasattr(model.config, KIND_KEY):  # the model started as a head and is no head now
        delattr(model.config, KIND_KEY)
    return model


def freeze(model: Any, optimise: Optimise, path: str) -> None:
    """Disable gradients of the parts that `optimise` freezes. Raises ModelError where the model has
    fewer layers than are to be frozen."""
    if optimise.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    if optimise.frozen_layers:
        layers = getattr(model.base_model, "layers", None)
        if layers is None or len(layers) < optimise.frozen_layers:
            count = "no layers" if layers is None else len(layers)
            raise ModelError(
                f"optimise.frozen_layers is {optimise.frozen_layers}; {path} has {count}"
            )
        for layer in layers[: optimise.frozen_layers]:
            layer.requires_grad_(False)


def _check_double_backward(trainee: Trainee, path: str, attention: str) -> None:
    """Differentiate the gradient once: fused attention kernels have no second derivative, and
    otherwise that would be found out only after all data was read."""
    trained = [p for p in trainee.model.parameters() if p.requires_grad]
    if not trained:
        raise ModelError(f"{path}: everything is frozen, so there is nothing to train")
    probe = Example(
        "probe", "probe", (0, 1, 2, 3), 0.0, (ScoredPosition(1, (0, 0), (0, 0), (0, 0)),)
    )
    try:
        values, _ = trainee.predict(Batch.of([probe], trainee.model.device))
        torch.autograd.grad(values.sum(), trained, allow_unused=True)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: the gradient cannot be differentiated with optimise.attention={attention}; "
            f"a gradient guide needs one that can (eager), or train kind: head ({error})"
        ) from error
