"""The families that are tested, by transformers' model type, with the changes to `SHAPE` that they
need. A change to `...` drops the key. The table in `nabla_core/README.md` lists the same.

Scales, caps and windows are set so that leaving one out changes the outputs by far more than the
tolerance.
"""

from __future__ import annotations

from typing import Any

from tests.core.families.tiny_models import SHAPE

# Latent attention: queries, keys and values from low ranks.
LATENT: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
}
GEMMA_CAPS: dict[str, Any] = {
    "query_pre_attn_scalar": 8,
    "attn_logit_softcapping": 1.0,
    "final_logit_softcapping": 1.5,
}
GRANITE: dict[str, Any] = {
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.7,
    "logits_scaling": 4.0,
}
MINICPM: dict[str, Any] = {**LATENT, "scale_emb": 3, "scale_depth": 0.7, "dim_model_base": 8}
# A vision tower beside the text model.
SEEING: dict[str, Any] = {
    "text_config": {**SHAPE, "query_pre_attn_scalar": 8},
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    },
    "mm_tokens_per_image": 4,
}
HYBRID: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "attn_layer_indices": [1],
    "shared_intermediate_size": 16,
}
LOCAL: dict[str, Any] = {"attention_types": [[["global", "local"], 1]], "window_size": 4}
OPT: dict[str, Any] = {"ffn_dim": 48, "word_embed_proj_dim": 16}

LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "biogpt": {},
    "bitnet": {},
    "bloom": {},
    "codegen": {"rotary_dim": 8},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25},
    "cohere2_moe": {"logit_scale": 0.25},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "diffllama": {},
    "ernie4_5": {},
    "ernie4_5_moe": {},
    "exaone4": {},
    "falcon": {"head_dim": ...},
    "flex_olmo": {},
    "gemma": {},
    "gemma2": GEMMA_CAPS,
    "gemma3": SEEING,
    "gemma3_text": GEMMA_CAPS,
    "gemma4_text": {
        **GEMMA_CAPS,
        "hidden_size_per_layer_input": 0,
        "global_head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "glm": {},
    "glm4": {},
    "glm4_moe": {},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": LOCAL,
    "gpt_neox": {},
    "gpt_oss": {},
    "gptj": {"rotary_dim": 8},
    "granite": GRANITE,
    "granitemoe": GRANITE,
    # Without the Mamba layers that this type may have too.
    "granitemoehybrid": {**HYBRID, **GRANITE, "layer_types": ["attention", "attention"]},
    "helium": {},
    "hunyuan_v1_dense": {},
    # Its logits are multiplied by what Granite's are divided by.
    "hyperclovax": {**GRANITE, "logits_scaling": 0.25},
    "jetmoe": {},
    "llama": {},
    "minicpm3": MINICPM,
    "minimax_m2": {},
    "ministral": {},
    "mistral": {},
    "mixtral": {},
    "mpt": {},
    "nanochat": {"final_logit_softcapping": 1.5},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {},
    "olmoe": {},
    "opt": OPT,
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
    "qwen2_moe": {},
    "qwen3": {},
    "qwen3_moe": {},
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "vaultgemma": GEMMA_CAPS,
    "xglm": {},
}
REWARD_MODELS: dict[str, dict[str, Any]] = {
    "arcee": {},
    "biogpt": {},
    "bloom": {},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "diffllama": {},
    "exaone4": {},
    "falcon": {"head_dim": ...},
    "gemma": {},
    "gemma2": GEMMA_CAPS,
    "gemma3": SEEING,
    "gemma3_text": GEMMA_CAPS,
    "glm": {},
    "glm4": {},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": LOCAL,
    "gpt_neox": {},
    "gpt_oss": {},
    "gptj": {"rotary_dim": 8},
    "helium": {},
    "hunyuan_v1_dense": {},
    "jetmoe": {},
    "llama": {},
    "minicpm3": MINICPM,
    "ministral": {},
    "mistral": {},
    "mixtral": {},
    "mpt": {},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {},
    "opt": OPT,
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
    "qwen2_moe": {},
    "qwen3": {},
    "qwen3_moe": {},
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
}

_NO_CACHE = "which keep no plain cache of keys and values, so no prefix can be continued"
_MIXED = ["linear_attention", "full_attention"]
_CODE = "cannot be run from input embeddings with a cache of keys and values"
_PARTS = r"logits are not head\(body\(embed\(ids\)\)\)"

# By model type: the changes, and what the error says.
REFUSED_LANGUAGE_MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "bamba": (HYBRID, f"bamba has linear_attention layers, {_NO_CACHE}"),
    "bert": ({"is_decoder": True}, _PARTS),
    "ctrl": ({"n_embd": 32, "dff": 48}, _CODE),
    "falcon_h1": ({}, f"falcon_h1 has hybrid layers, {_NO_CACHE}"),
    "falcon_mamba": ({}, f"falcon_mamba has linear_attention layers, {_NO_CACHE}"),
    "gemma3n_text": (
        {
            "layer_types": ["sliding_attention", "full_attention"],
            "vocab_size_per_layer_input": 24,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "num_kv_shared_layers": 0,
            "altup_num_inputs": 2,
            "activation_sparsity_pattern": [0.0, 0.0],
        },
        "gemma3n_text looks tokens up again in every layer, so what a token does is no function",
    ),
    "granitemoehybrid": (
        {**HYBRID, "layer_types": ["mamba", "attention"]},
        f"granitemoehybrid has linear_attention layers, {_NO_CACHE}",
    ),
    "jamba": ({}, f"jamba has linear_attention layers, {_NO_CACHE}"),
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, f"lfm2 has conv layers, {_NO_CACHE}"),
    "llama4_text": ({}, f"llama4_text has chunked_attention layers, {_NO_CACHE}"),
    "mamba": ({}, f"mamba has linear_attention layers, {_NO_CACHE}"),
    "minimax": ({"layer_types": _MIXED}, f"minimax has linear_attention layers, {_NO_CACHE}"),
    "nemotron_h": ({}, f"nemotron_h has linear_attention, mlp, moe layers, {_NO_CACHE}"),
    "olmo_hybrid": ({}, f"olmo_hybrid has linear_attention layers, {_NO_CACHE}"),
    "openai-gpt": ({}, _CODE),
    "qwen3_5_text": ({}, f"qwen3_5_text has linear_attention layers, {_NO_CACHE}"),
    "qwen3_next": ({}, f"qwen3_next has linear_attention layers, {_NO_CACHE}"),
    "recurrent_gemma": ({}, f"recurrent_gemma has recurrent layers, {_NO_CACHE}"),
    "roberta": ({"is_decoder": True}, _PARTS),
    "rwkv": ({}, f"rwkv has recurrent layers, {_NO_CACHE}"),
    "xlstm": ({}, f"xlstm has recurrent layers, {_NO_CACHE}"),
}
_NO_SCORE = "no linear layer `score` to read a reward from"
REFUSED_REWARD_MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "bert": ({}, _NO_SCORE),
    "ctrl": ({"n_embd": 32, "dff": 48}, _NO_SCORE),
    "deberta-v2": ({}, _NO_SCORE),
    "jamba": ({}, f"jamba has linear_attention layers, {_NO_CACHE}"),
    "minimax": ({"layer_types": _MIXED}, f"minimax has linear_attention layers, {_NO_CACHE}"),
    "modernbert": ({}, _NO_SCORE),
    "openai-gpt": ({}, _CODE),
    "qwen3_next": ({}, f"qwen3_next has linear_attention layers, {_NO_CACHE}"),
    "roberta": ({}, _NO_SCORE),
    "zamba2": (
        {
            "layers_block_type": ["mamba", "hybrid"],
            "layer_types": ["linear_attention", "hybrid"],
            "n_mamba_heads": 4,
            "mamba_headdim": 16,
        },
        f"zamba2 has hybrid, linear_attention layers, {_NO_CACHE}",
    ),
}
