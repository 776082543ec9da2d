"""What a model's layers must be like, and how long its sequences may be.

Rollouts and sweeps continue from the keys and values of a prefix (`models.kv_cache`), in batches
of rows of different lengths, and gradients are taken with respect to input embeddings. Models whose
layers do not allow that are refused when they are loaded.
"""

from __future__ import annotations

from typing import Any

from nabla_core.errors import ModelError

# Kinds of layers (`layer_types` of a config) that keep the keys and values of every token. A
# sliding window is a mask on them.
_SERVED = {"full_attention", "sliding_attention", "attention"}


def check_layers(model: Any, source: str) -> None:
    """Raises ModelError naming the model's type, and its layers that keep no keys and values or
    that read tokens beside their input."""
    text = model.config.get_text_config()
    # Models with convolutions or recurrent layers name them in different ways, or not at all.
    named = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or ()
    others = sorted(set(named) - _SERVED)
    if not named and getattr(model, "_is_stateful", False):
        others = ["recurrent"]
    if others:
        raise ModelError(
            f"{source}: {text.model_type} has {', '.join(others)} layers, which keep no plain "
            "cache of keys and values, so no prefix can be continued; choose a model whose layers "
            "are all attention"
        )
    if getattr(text, "hidden_size_per_layer_input", None):
        raise ModelError(
            f"{source}: {text.model_type} looks tokens up again in every layer, so what a token "
            "does is no function of its input embedding, and no gradient can be taken; choose a "
            "model without per-layer embeddings"
        )


def context_length(model: Any) -> int:
    """The longest sequence in tokens that a model reads alike alone and in every batch.

    Rotary embeddings of two types change with the length of a batch's longest row: `dynamic`
    ones beyond `max_position_embeddings`, `longrope` beyond the length of the first training.
    Sequences end before that.
    """
    text = model.config.get_text_config()
    limits = [
        getattr(text, "max_position_embeddings", None),
        # MPT's attention biases are made for this length.
        getattr(text, "max_seq_len", None),
        *_unchanging_lengths(getattr(text, "rope_parameters", None) or {}),
    ]
    return min((int(limit) for limit in limits if limit), default=1 << 30)


def _unchanging_lengths(rope: dict[str, Any]) -> list[int | None]:
    # One set of parameters, or one for each kind of layer.
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    return [
        part.get("original_max_position_embeddings")
        for part in parts
        if part.get("rope_type") == "longrope"
    ]


def keep_attention_caps(model: Any) -> None:
    """Make a model whose config caps its attention scores (Gemma 2) compute them with the cap.

    transformers' default kernel, scaled dot-product attention, leaves the cap out and does not
    say so.
    """
    text = model.config.get_text_config()
    capped = getattr(text, "attn_logit_softcapping", None)
    if capped and text._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")
