"""Loading tokenizers, configs and models with transformers: one place, one kind of error.

Code that a model brings along (`auto_map`) is never run, and nothing asks whether it may be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from nabla_core.errors import ModelError
from nabla_core.models.folder import adapter_base, check_model_files, check_tokenizer_files
from nabla_core.models.hub import cache_without_network
from nabla_core.models.layers import keep_attention_caps
from nabla_core.models.location import check_location, shown, unavailable
from nabla_core.models.value_head import ValueHeadConfig

# transformers reads the config of a folder by its type, and does not know this one.
AutoConfig.register(ValueHeadConfig.model_type, ValueHeadConfig)

# What the output layers of LMs are called. A classifier has no use for them.
LM_HEADS = ("lm_head", "embed_out")


def load_tokenizer(path: str, revision: str | None) -> Any:
    """The tokenizer of a folder or hub id; of an adapter that was saved without one, that of the
    model it is for. Raises ModelError naming the path or the file."""
    folder = Path(path)
    base = adapter_base(path)
    if base is not None and not list(folder.glob("tokenizer*")):
        return load_tokenizer(base, None)
    # transformers would take any path for a hub id, and complain about the hub.
    check_location(path)
    if folder.is_dir() and not list(folder.glob("tokenizer*")):
        raise ModelError(f"{path}: no tokenizer files in this folder")
    check_tokenizer_files(path)
    try:
        with cache_without_network(path):
            tokenizer = AutoTokenizer.from_pretrained(
                path, revision=revision, trust_remote_code=False
            )
    # The parsers of transformers and tokenizers raise whatever comes up, a bare Exception too.
    except Exception as error:
        raise unavailable(path, "tokenizer", error) from error
    _refuse_code(path, "tokenizer", tokenizer.init_kwargs.get("auto_map"))
    # transformers makes one of tokenizer_config.json alone, which reads every text as nothing.
    files = sorted({*getattr(tokenizer, "vocab_files_names", {}).values(), "tokenizer.json"})
    if folder.is_dir() and len(files) > 1 and not any((folder / file).exists() for file in files):
        raise ModelError(f"{path}: its tokenizer has no vocabulary: none of {', '.join(files)}")
    return tokenizer


def load_config(path: str, revision: str | None) -> Any:
    """The config of a folder or hub id; of an adapter, that of the model it is for. Raises
    ModelError naming the path or the file, and for models that only code of their own can run or
    whose weights are quantized."""
    check_location(path)
    check_model_files(path)
    base = adapter_base(path)
    if base is not None and not (Path(path) / "config.json").exists():
        return load_config(base, None)
    try:
        with cache_without_network(path):
            config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    except Exception as error:  # as above
        raise unavailable(path, "config", error) from error
    _refuse_code(path, "config", getattr(config, "auto_map", None))
    quantized = getattr(config, "quantization_config", None)
    if quantized:
        kind = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise ModelError(
            f"{path}: its weights are quantized ({kind}), and gradients through such weights are "
            "not supported; use the model that was not quantized"
        )
    return config


def own_dtype(path: str, revision: str | None) -> torch.dtype:
    """The type of a model's weights, by its config; float32 where that does not say."""
    dtype = load_config(path, revision).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def load_pretrained(
    auto: Any,
    path: str,
    *,
    purpose: str,
    revision: str | None = None,
    initialised: Callable[[Any], Collection[str]] = lambda model: (),
    unused: Collection[str] = (),
    **options: Any,
) -> Any:
    """`auto.from_pretrained(path, revision=revision, **options)` in evaluation mode.

    `purpose` says in an error what the model is loaded for, such as "a guide". transformers
    initialises weights that a checkpoint lacks at random and leaves out those that it does not
    know. `initialised(model)` names the modules for which the first is right, `unused` those for
    which the second is. Raises ModelError naming the path where the model cannot be loaded, lacks
    other weights, or has others.
    """
    load_config(path, revision)
    try:
        with cache_without_network(path):
            model, report = auto.from_pretrained(
                path,
                revision=revision,
                trust_remote_code=False,
                output_loading_info=True,
                # They are an error below, which names them.
                ignore_mismatched_sizes=True,
                **options,
            )
    # Configs of all kinds, and attention implementations or packages that are not installed.
    except Exception as error:
        raise ModelError(f"{path}: cannot load it as {purpose}: {shown(error)}") from error
    shapes = [f"{key} {[*has]} for {[*needs]}" for key, has, needs in report["mismatched_keys"]]
    _refuse(path, purpose, "its weights have other shapes than its config", shapes)
    _refuse(path, purpose, "its weights lack", _outside(report["missing_keys"], initialised(model)))
    others = _outside(report["unexpected_keys"], unused)
    _refuse(path, purpose, "its weights have what its config has no place for:", others)
    keep_attention_caps(model)
    return model.eval()


def _outside(keys: Iterable[str], modules: Collection[str]) -> list[str]:
    """The keys of weights that belong to none of the modules."""
    return [key for key in keys if key.rpartition(".")[0] not in modules]


def _refuse(path: str, purpose: str, reason: str, keys: Collection[str]) -> None:
    """Raises ModelError where there are keys."""
    if keys:
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        listed = ", ".join(sorted(keys)[:3])
        raise ModelError(f"{path} is not {purpose}: {reason} {listed}{more}")


def _refuse_code(path: str, part: str, auto_map: Any) -> None:
    """Raises ModelError where a model names classes of its own: transformers would take one of its
    classes of the same type, whose outputs may be others, or even ask on stdin."""
    if not auto_map:
        return
    # Of a tokenizer: a pair of classes, or for old ones a list without names.
    named = auto_map.values() if isinstance(auto_map, Mapping) else [auto_map]
    flat = [name for each in named for name in (each if isinstance(each, list | tuple) else [each])]
    classes = ", ".join(sorted({str(name) for name in flat if name}))
    raise ModelError(
        f"{path}: its {part} names code of its own (auto_map: {classes}), which is not run here; "
        "if the class of transformers does the same, delete auto_map from a copy of the folder"
    )
