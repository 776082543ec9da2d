"""The two kinds of guide in training: a gradient taught by differentiating it, and a head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from nabla_core.engines.loading import head_with, read_with
from nabla_core.errors import HeadError, ModelError
from nabla_core.guide_training.examples import Batch, GuideEncoder
from nabla_core.guide_training.head_model import new_head
from nabla_core.guide_training.settings import Kind, Optimise
from nabla_core.guides.head import KIND_KEY, HeadGuide
from nabla_core.model_config import Runtime
from nabla_core.models.loading import LanguageModel, language_model, reward_model
from nabla_core.models.readers import Reader
from nabla_core.types import Identity


class Trainee(Protocol):
    """A guide in training. `model` is a transformers model, fp32."""

    model: Any

    @property
    def output(self) -> nn.Linear:
        """The layer that what it says is proportional to."""

    def predict(self, batch: Batch, *, differentiable: bool = True) -> tuple[Tensor, Tensor | None]:
        """What each token tried is worth, `[N, K]`, and the rewards `[R]` where it has any;
        with `differentiable` differentiable with respect to the weights."""

    def guide(self, lm: LanguageModel, min_coverage: float, runtime: Runtime) -> Reader | HeadGuide:
        """It as the guide of `lm`, over the same weights."""


@contextmanager
def scaled(trainee: Trainee, factor: float) -> Iterator[None]:
    """What the trainee says is `factor` times as much meanwhile."""
    weight = trainee.output.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(factor)
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(kept)


class GradientTrainee:
    """`E @ d reward / d e_i`: learning it takes a second derivative."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model = model
        self._tokenizer, self._name = tokenizer, name

    @property
    def output(self) -> nn.Linear:
        layer: nn.Linear = self.model.score
        return layer

    def predict(self, batch: Batch, *, differentiable: bool = True) -> tuple[Tensor, Tensor | None]:
        table = self.model.get_input_embeddings().weight
        with torch.enable_grad():
            embeddings = table[batch.ids]
            if not embeddings.requires_grad:
                embeddings.requires_grad_()
            body = self.model.base_model
            hidden = body(inputs_embeds=embeddings, use_cache=False).last_hidden_state
            ends = hidden[torch.arange(len(batch.ids), device=hidden.device), batch.last]
            rewards = self.model.score(ends).squeeze(-1)
            (slope,) = torch.autograd.grad(rewards.sum(), embeddings, create_graph=differentiable)
        here = slope[batch.row, batch.index]
        values = torch.einsum("nd,nkd->nk", here, table[batch.tokens].to(here.dtype))
        return (values, rewards) if differentiable else (values.detach(), rewards.detach())

    def guide(self, lm: LanguageModel, min_coverage: float, runtime: Runtime) -> Reader | HeadGuide:
        model = reward_model(self.model, self._tokenizer, Identity(self._name, "in training"))
        return read_with(model, lm, min_coverage)


class HeadTrainee:
    """A row of the output layer for each token tried, at the token before."""

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
            here = hidden[batch.row, batch.index - 1]
            rows = self.model.get_output_embeddings().weight[batch.tokens]
            return torch.einsum("nd,nkd->nk", here, rows.to(here.dtype)), None

    def guide(self, lm: LanguageModel, min_coverage: float, runtime: Runtime) -> Reader | HeadGuide:
        model = language_model(self.model, self._tokenizer, Identity(self._name, "in training"))
        return head_with(model, lm, min_coverage, runtime)


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
    """A guide of `kind` that starts as `path`: a reward model or an LM (whose missing score
    layer is drawn from `seed`), with what is to stay frozen. `adapt` may put adapters into it.
    Raises ModelError."""
    torch.manual_seed(seed)
    trainee: Trainee
    if kind == "head":
        trainee = HeadTrainee(new_head(path, revision=revision), tokenizer, path)
    else:
        trainee = GradientTrainee(_classifier(path, revision, optimise.attention), tokenizer, path)
    freeze(trainee.model, optimise, path)
    if adapt:
        adapt(trainee)
    if kind == "gradient":
        _probe(trainee, path, optimise.attention)
    return trainee


def guide_encoder(
    kind: Kind, trainee: Trainee, tokenizer: Any, lm: LanguageModel, coverage: float
) -> GuideEncoder:
    """How the trainee reads the LM's responses. Raises VocabularyError."""
    guide = trainee.guide(lm, coverage, Runtime())
    if isinstance(guide, HeadGuide):
        return GuideEncoder(tokenizer, guide.vocabulary, lm.stop, guide.head.context, kind)
    return GuideEncoder(tokenizer, guide.vocabulary, lm.stop, guide.rm.context, kind)


def _classifier(path: str, revision: str | None, attention: str) -> Any:
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            path,
            revision=revision,
            num_labels=1,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot load it as a guide: {error}") from error
    score = getattr(model, "score", None)
    if not isinstance(score, nn.Linear):
        raise HeadError(f"{path}: no linear layer `score` to read a reward from")
    missing = [k for k in report["missing_keys"] if not k.startswith("score.")]
    if missing:
        raise ModelError(f"{path}: no guide to start from: its weights lack {missing[0]}")
    if hasattr(model.config, KIND_KEY):  # what starts as a head is none any more
        delattr(model.config, KIND_KEY)
    return model.eval()


def freeze(model: Any, optimise: Optimise, path: str) -> None:
    """Switch off what `optimise` says stays as it is. Raises ModelError."""
    if optimise.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    if optimise.frozen_layers:
        layers = getattr(model.base_model, "layers", None)
        if layers is None or len(layers) < optimise.frozen_layers:
            found = "none" if layers is None else len(layers)
            raise ModelError(
                f"optimise.frozen_layers is {optimise.frozen_layers}; {path} has {found}"
            )
        for layer in layers[: optimise.frozen_layers]:
            layer.requires_grad_(False)


def _probe(trainee: Trainee, path: str, attention: str) -> None:
    """Differentiate once what training will differentiate a thousand times."""
    device = trainee.model.device
    two = torch.zeros(1, 2, dtype=torch.int64, device=device)
    batch = Batch(
        ids=torch.zeros(1, 4, dtype=torch.int64, device=device),
        last=torch.tensor([3], device=device),
        score=torch.zeros(1, device=device),
        row=torch.tensor([0], device=device),
        index=torch.tensor([1], device=device),
        tokens=two,
        scores=two.float(),
        prior=two.float(),
        tried=two == 0,
    )
    trained = [p for p in trainee.model.parameters() if p.requires_grad]
    if not trained:
        raise ModelError(f"{path}: everything is frozen, so there is nothing to train")
    try:
        values, _ = trainee.predict(batch)
        torch.autograd.grad(values.sum(), trained, allow_unused=True)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: the gradient cannot be differentiated with optimise.attention={attention}; "
            f"a gradient guide needs one that can (eager), or train kind: head ({error})"
        ) from error
