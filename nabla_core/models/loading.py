"""Loading the models, and splitting them into embedding table, body and head.

A sweep feeds input embeddings and reads hidden states, so it needs these parts, and they must be
the whole model. Both loaders check that on a few tokens. They refuse a model with anything else
in between, such as a logit scale, a soft cap or a pooling rule: gradients would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from nabla_core.errors import HeadError, ModelError
from nabla_core.models.flops import Shape
from nabla_core.models.forward import checkpointable
from nabla_core.models.identity import identify, unchanged
from nabla_core.models.pretrained import LM_HEADS, load_pretrained, load_tokenizer
from nabla_core.models.vocab import ids_without_token, require_rows
from nabla_core.types import Identity


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal LM: `head(body(inputs_embeds=table[ids]).last_hidden_state)` are its logits.

    table `[V, D]`, head weight `[V, D]`. `stop` are the ids that end a response; `no_token`,
    bool `[V]`, is True for ids that stand for no token (the table may be padded, and the ids of a
    tokenizer may have gaps); `context` is the longest sequence in tokens. `source` is the folder or
    hub id that it was loaded from, as errors name it; `identity` is what rows and cards store.
    """

    body: nn.Module
    head: nn.Linear
    table: Tensor
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

    @property
    def vocabulary(self) -> int:
        """The number of ids that stand for a token."""
        return int((~self.no_token).sum())

    def finite(self, logits: Tensor) -> Tensor:
        """logits `[B, V]` -> bool `[B]`: whether the logits of all tokens are finite."""
        return (logits.isfinite() | self.no_token).all(-1)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden `[..., D]` -> fp32 logits `[..., V]`; ids that are no token are -inf."""
        logits = self.head(hidden).float()
        # Those ids decode to nothing.
        return logits.masked_fill_(self.no_token, float("-inf"))


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A sequence classifier with one output: `score(hidden of the last token)` is the reward.

    table `[V_rm, D_rm]`; `context` and `source` as for the LM.
    """

    body: nn.Module
    score: nn.Linear
    table: Tensor
    tokenizer: Any
    context: int
    identity: Identity
    source: str
    shape: Shape = field(repr=False)

    @property
    def device(self) -> torch.device:
        return self.table.device


def load_language_model(
    path: str, *, revision: str | None, device: torch.device, dtype: torch.dtype
) -> LanguageModel:
    """Load a causal LM for rollouts and sweeps. Raises ModelError naming the path."""
    with unchanged(path):
        tokenizer = load_tokenizer(path, revision)
        model = _load(AutoModelForCausalLM, path, revision, device, dtype)
    return language_model(model, tokenizer, identify(path, revision))


def language_model(model: Any, tokenizer: Any, identity: Identity) -> LanguageModel:
    """The parts of a loaded causal LM. Raises HeadError where they are not the whole model."""
    head, body = model.get_output_embeddings(), model.base_model
    source = _source(model, identity)
    table = model.get_input_embeddings().weight
    require_rows(tokenizer, table.size(0), source)
    if not isinstance(head, nn.Linear):
        raise HeadError(f"{source}: its output head is a {type(head).__name__}, not Linear")
    probe = _probe(model, tokenizer)
    with torch.no_grad():
        whole = model(input_ids=probe).logits
        parts = head(body(inputs_embeds=table[probe]).last_hidden_state)
    _check_parts(whole, parts, source, "logits are not head(body(table[ids]))")
    stop = _stop_ids(model, tokenizer)
    no_token = ids_without_token(tokenizer, head.out_features, stop=stop)
    return LanguageModel(
        body=body,
        head=head,
        table=table,
        tokenizer=tokenizer,
        stop=stop,
        no_token=no_token.to(table.device),
        context=_context(model),
        identity=identity,
        source=source,
        shape=Shape.of(body, model.config, head.out_features),
    )


def load_reward_model(
    path: str, *, revision: str | None, device: torch.device, dtype: torch.dtype
) -> RewardModel:
    """Load a sequence classifier with one label. Raises HeadError on any other number."""
    with unchanged(path):
        tokenizer = load_tokenizer(path, revision)
        model = _load(AutoModelForSequenceClassification, path, revision, device, dtype)
    return reward_model(model, tokenizer, identify(path, revision))


def reward_model(model: Any, tokenizer: Any, identity: Identity) -> RewardModel:
    """The parts of a loaded classifier. Raises HeadError where they are not the whole model."""
    source = _source(model, identity)
    labels = model.config.num_labels
    if labels != 1:
        raise HeadError(f"{source}: a reward model has one label, this one has {labels}")
    score = getattr(model, "score", None)
    if not isinstance(score, nn.Linear):
        raise HeadError(f"{source}: no linear layer `score` to read a reward from")
    table = model.get_input_embeddings().weight
    require_rows(tokenizer, table.size(0), source)
    # The probe has no padding: its last column is its last token.
    probe = _probe(model, tokenizer)
    with torch.no_grad():
        whole = model(input_ids=probe).logits
        parts = score(model.base_model(inputs_embeds=table[probe]).last_hidden_state[:, -1])
    _check_parts(whole, parts, source, "its reward is not score(body(table[ids])) at the end")
    return RewardModel(
        body=model.base_model,
        score=score,
        table=table,
        tokenizer=tokenizer,
        context=_context(model),
        identity=identity,
        source=source,
        shape=Shape.of(model.base_model, model.config, 1),
    )


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


def _probe(model: Any, tokenizer: Any) -> Tensor:
    """Up to eight ids `[1, n]` to compare the parts with the whole model on."""
    # No pad token: a classifier would take it for the end of the text.
    size = min(len(tokenizer), model.get_input_embeddings().num_embeddings)
    pad = model.config.pad_token_id
    ids = [i for i in range(min(size, 9)) if i != pad][:8]
    return torch.tensor([ids], device=model.device)


def _check_parts(whole: Tensor, parts: Tensor, name: str, mismatch: str) -> None:
    if not whole.isfinite().all():
        raise ModelError(f"{name}: its outputs are not finite; are its weights damaged?")
    # bf16 has 8 bits of mantissa, and the two ways round at different places.
    tolerance = 1e-4 if whole.dtype == torch.float32 else 2e-2
    if not torch.allclose(whole.float(), parts.float(), rtol=tolerance, atol=tolerance):
        worst = (whole.float() - parts.float()).abs().max().item()
        raise HeadError(f"{name}: {mismatch} (off by {worst:.3g}); gradients would be wrong")


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    # Chat models declare several, and not always the tokenizer's own.
    declared = model.generation_config.eos_token_id
    ids = declared if isinstance(declared, list) else [declared]
    stop = frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
    if not stop:
        raise ModelError(f"{model.config.name_or_path}: no stop token in its generation config")
    return stop


def _context(model: Any) -> int:
    return int(getattr(model.config, "max_position_embeddings", 1 << 30))
