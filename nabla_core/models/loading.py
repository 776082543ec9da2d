"""Loading the models, and splitting them into embedding table, body and head.

A sweep feeds input embeddings and reads hidden states, so it needs these parts, and they must be
the whole model. Both loaders check that on a few tokens (`models.probe`). They refuse a model with
anything else in between: gradients would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from nabla_core.errors import HeadError, ModelError
from nabla_core.models.flops import Shape
from nabla_core.models.forward import checkpointable
from nabla_core.models.identity import identify, unchanged
from nabla_core.models.layers import check_layers, context_length
from nabla_core.models.logit_map import LogitMap
from nabla_core.models.pooling import pad_token
from nabla_core.models.pretrained import LM_HEADS, load_pretrained, load_tokenizer
from nabla_core.models.probe import (
    check_gradient,
    check_logits,
    check_prefix_caches,
    check_rewards,
    logit_map_of,
    named_refusal,
    probe_ids,
)
from nabla_core.models.vocab import ids_without_token, require_rows
from nabla_core.types import Identity


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal LM: `logit_map(head(body(inputs_embeds=embed(ids)).last_hidden_state))` are its
    logits.

    table `[V, D]`, head weight `[V, D]`. Input embeddings are rows of the table times
    `embedding_scale`. `stop` are the ids that end a response; `no_token`,
    bool `[V]`, is True for ids that stand for no token (the table may be padded, and the ids of a
    tokenizer may have gaps); `context` is the longest sequence in tokens. `source` is the folder or
    hub id that it was loaded from, as errors name it; `identity` is what rows and cards store.
    """

    body: nn.Module
    head: nn.Linear
    logit_map: LogitMap
    table: Tensor
    embedding_scale: float
    tokenizer: Any
    stop: frozenset[int]
    no_token: Tensor = field(repr=False)
    context: int
    identity: Identity
    source: str
    shape: Shape = field(repr=False)

    @property
    def device(self) -> torch.device:
        return self.table.device

    @cached_property
    def dense(self) -> int:
        """The first id that is no token; all before it are."""
        first = self.no_token.nonzero()
        return int(first[0]) if len(first) else len(self.no_token)

    @property
    def vocabulary(self) -> int:
        """The number of ids that stand for a token."""
        return int((~self.no_token).sum())

    def finite(self, logits: Tensor) -> Tensor:
        """logits `[B, V]` -> bool `[B]`: whether the logits of all tokens are finite."""
        # The extremes say it for ids up to the first that is no token: NaN is an extreme too.
        tokens, rest = logits[:, : self.dense], logits[:, self.dense :]
        finite = (rest.isfinite() | self.no_token[self.dense :]).all(-1)
        if self.dense == 0:
            return finite
        return finite & tokens.amax(-1).isfinite() & tokens.amin(-1).isfinite()

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings `[..., D]` of ids `[...]`."""
        return embed(self.table, self.embedding_scale, ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden `[..., D]` -> fp32 logits `[..., V]`; ids that are no token are -inf."""
        logits = self.logit_map(self.head(hidden).float())
        # Those ids decode to nothing.
        logits[..., self.dense :].masked_fill_(self.no_token[self.dense :], float("-inf"))
        return logits


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A sequence classifier with one output: `score(hidden of one token)` is the reward.

    That token is the last that is not `pad` (`models.pooling`). table `[V_rm, D_rm]`;
    `embedding_scale`, `context` and `source` as for the LM.
    """

    body: nn.Module
    score: nn.Linear
    table: Tensor
    embedding_scale: float
    pad: int | None
    tokenizer: Any
    context: int
    identity: Identity
    source: str
    shape: Shape = field(repr=False)

    @property
    def device(self) -> torch.device:
        return self.table.device

    def reward(self, hidden: Tensor) -> Tensor:
        """hidden `[..., D_rm]` of the tokens that rewards are read from -> fp32 rewards `[...]`.

        In bfloat16 the layer would round a reward to 8 bits: two responses would often tie, and
        small gains would be lost.
        """
        bias = None if self.score.bias is None else self.score.bias.float()
        return linear(hidden.float(), self.score.weight.float(), bias).squeeze(-1)

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings `[..., D_rm]` of ids `[...]`."""
        return embed(self.table, self.embedding_scale, ids)


def load_language_model(
    path: str, *, revision: str | None, device: torch.device, dtype: torch.dtype
) -> LanguageModel:
    """Load a causal LM for rollouts and sweeps. Raises ModelError naming the path."""
    with unchanged(path):
        tokenizer = load_tokenizer(path, revision)
        model = _load(AutoModelForCausalLM, path, revision, device, dtype)
    return language_model(model, tokenizer, identify(path, revision))


def language_model(model: Any, tokenizer: Any, identity: Identity) -> LanguageModel:
    """The parts of a loaded causal LM. Raises HeadError where they are not the whole model, and
    ModelError where its layers cannot continue from a prefix."""
    source = _source(model, identity)
    check_layers(model, source)
    with named_refusal(model, source):
        head, body = model.get_output_embeddings(), _text_body(model)
        if not isinstance(head, nn.Linear):
            raise HeadError(f"{source}: its output head is a {type(head).__name__}, not Linear")
        table, stop = model.get_input_embeddings().weight, stop_ids(model, tokenizer)
        require_rows(tokenizer, table.size(0), source)
        no_token = ids_without_token(tokenizer, head.out_features, stop=stop)
        ids = probe_ids(model, tokenizer)
        made = LanguageModel(
            body=body,
            head=head,
            logit_map=logit_map_of(model, ids),
            table=table,
            embedding_scale=embedding_scale(model),
            tokenizer=tokenizer,
            stop=stop,
            no_token=no_token.to(table.device),
            context=context_length(model),
            identity=identity,
            source=source,
            shape=Shape.of(body, model.config, head.out_features),
        )
        check_logits(model, made, ids)
        check_gradient(made, ids)
        check_prefix_caches(made, ids)
    return made


def load_reward_model(
    path: str, *, revision: str | None, device: torch.device, dtype: torch.dtype
) -> RewardModel:
    """Load a sequence classifier with one label. Raises HeadError on any other number."""
    with unchanged(path):
        tokenizer = load_tokenizer(path, revision)
        model = _load(AutoModelForSequenceClassification, path, revision, device, dtype)
    return reward_model(model, tokenizer, identify(path, revision))


def reward_model(model: Any, tokenizer: Any, identity: Identity) -> RewardModel:
    """The parts of a loaded classifier. Raises HeadError where they are not the whole model, and
    ModelError where its layers cannot continue from a prefix."""
    source = _source(model, identity)
    labels = model.config.num_labels
    if labels != 1:
        raise HeadError(f"{source}: a reward model has one label, this one has {labels}")
    score = getattr(model, "score", None)
    if not isinstance(score, nn.Linear):
        raise HeadError(f"{source}: no linear layer `score` to read a reward from")
    check_layers(model, source)
    with named_refusal(model, source):
        table = model.get_input_embeddings().weight
        require_rows(tokenizer, table.size(0), source)
        body = _text_body(model)
        made = RewardModel(
            body=body,
            score=score,
            table=table,
            embedding_scale=embedding_scale(model),
            pad=pad_token(model),
            tokenizer=tokenizer,
            context=context_length(model),
            identity=identity,
            source=source,
            shape=Shape.of(body, model.config, 1),
        )
        ids = probe_ids(model, tokenizer)
        check_rewards(model, made, ids)
        check_gradient(made, ids)
        check_prefix_caches(made, ids)
    return made


def require_checkpointable(model: LanguageModel | RewardModel) -> None:
    """Raises ModelError where the layers of a model's body cannot be run again in a backward
    pass."""
    body: Any = model.body
    if not checkpointable(body):
        raise ModelError(
            f"runtime.gradient_checkpointing: {model.source} ({type(body).__name__}) has no "
            "layers that can be checkpointed"
        )


def _source(model: Any, identity: Identity) -> str:
    """The folder or hub id of a loaded model; the identity's name of one made in memory."""
    return getattr(model.config, "name_or_path", "") or identity.name


def _text_body(model: Any) -> Any:
    """What is between embeddings and output layer; of a model that also sees, its text part."""
    return getattr(model.base_model, "language_model", model.base_model)


def _load(
    auto: Any, path: str, revision: str | None, device: torch.device, dtype: torch.dtype
) -> Any:
    kind = auto.__name__.removeprefix("AutoModelFor")
    # A reward model may keep the head of the LM that it was.
    unused = LM_HEADS if auto is AutoModelForSequenceClassification else ()
    model = load_pretrained(
        auto, path, purpose=f"a {kind}", revision=revision, unused=unused, dtype=dtype
    )
    return model.to(device).requires_grad_(False)


def embedding_scale(model: Any) -> float:
    """The factor between rows of a model's embedding table and its input embeddings."""
    embedding = model.get_input_embeddings()
    scale = getattr(embedding, "embed_scale", 1.0)
    # A factor that is a tensor (Gemma) is rounded to the type of the weights before it is used.
    return float(scale.to(embedding.weight.dtype) if isinstance(scale, Tensor) else scale)


def embed(table: Tensor, scale: float, ids: Tensor) -> Tensor:
    """Input embeddings `[..., D]` of ids `[...]`, from a table `[V, D]` and its factor."""
    return table[ids] if scale == 1.0 else table[ids] * scale


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end a response. Raises ModelError where the model has none."""
    # Chat models declare several, and not always the tokenizer's own.
    declared = model.generation_config.eos_token_id
    ids = declared if isinstance(declared, list) else [declared]
    stop = frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
    if not stop:
        raise ModelError(f"{model.config.name_or_path}: no stop token in its generation config")
    return stop
