"""`dtype: auto` becomes the type of a run: once, and the run folder keeps it.

The rule is that of `nabla_core.models.dtype`. The driver applies it for the machines of its
workers, and every worker of rows checks it for its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, get_args

from nabla_core.errors import ModelError
from nabla_core.model_config import Runtime
from nabla_core.models.dtype import Dtype, are_small, best_dtype, computes_bfloat16
from pipeline.run.stored_setting import stored_setting


class ResolvedRuntime(Runtime):
    """A runtime whose dtype was `auto`: every node must come to the same type."""


def resolve_runtime(
    runtime: Runtime,
    run_dir: str,
    paths: Iterable[str],
    *,
    gpus: float,
    cluster: bool,
    key: str = "runtime",
) -> tuple[Runtime, list[str]]:
    """The runtime with a type instead of `auto`, and a sentence for the user where that is not
    float32.

    `paths`: the places of the models. `gpus`: what an actor has. `cluster`: the actors are on other
    machines. Raises StoreError.
    """
    if runtime.dtype != "auto":
        return runtime, []
    dtype, notes = resolve_dtype(
        run_dir, paths, device=runtime.device, gpus=gpus, cluster=cluster, key=f"{key}.dtype"
    )
    settings: dict[str, Any] = {
        field.name: getattr(runtime, field.name) for field in fields(runtime)
    }
    return ResolvedRuntime(**{**settings, "dtype": dtype}), notes


def resolve_dtype(
    run_dir: str, paths: Iterable[str], *, device: str, gpus: float, cluster: bool, key: str
) -> tuple[Dtype, list[str]]:
    """The type that the run folder keeps at `key` of its config, else that of the rule, and what to
    tell the user of it. Raises StoreError."""
    stored = stored_setting(run_dir, key)
    if stored in get_args(Dtype):
        return stored, []
    if are_small(paths):
        return "float32", []
    on_gpu = device.startswith("cuda") or (device == "auto" and gpus > 0)
    dtype: Dtype
    if on_gpu and cluster:
        # This machine may have no GPU at all. The actors check theirs.
        dtype = "bfloat16"
    else:
        where = device if on_gpu else "cpu" if device == "auto" else device
        dtype = "bfloat16" if computes_bfloat16(where) else "float32"
    notes = [f"{key}=bfloat16: the models are not small, and the hardware computes it"]
    return dtype, notes if dtype == "bfloat16" else []


def require_same_dtype(runtime: Runtime, device: str, paths: Iterable[str]) -> None:
    """Raises ModelError where `auto` became another type for the run than it would here."""
    if not isinstance(runtime, ResolvedRuntime):
        return
    here = best_dtype(device, paths)
    if here != runtime.dtype:
        raise ModelError(
            f"runtime.dtype: auto became {runtime.dtype} for this run, and on this node ({device}) "
            f"it would be {here}: rows of both types would be mixed. Use nodes of one kind, or set "
            f"runtime.dtype={runtime.dtype} for all of them"
        )
