"""`dtype: auto`: which type a machine computes models in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nabla_core import Reward, Runtime, load_engines
from nabla_core.embedded.weights import folder
from nabla_core.models import dtype
from nabla_core.models.dtype import are_small, best_dtype, computes_bfloat16

AMX = "processor\t: 0\nflags\t\t: fpu avx512f amx_bf16 amx_tile\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"
OLD = "processor\t: 0\nflags\t\t: fpu avx2 avx512f\n"


def cpu(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (folder / "cpuinfo").write_text(text)
    monkeypatch.setattr(dtype, "_CPU_INFO", folder / "cpuinfo")


def large(folder: Path) -> str:
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(dtype.SMALL_BYTES)
    return str(folder)


@pytest.mark.parametrize(("text", "has_it"), [(AMX, True), (ARM, True), (OLD, False), ("", False)])
def test_a_cpu_computes_bfloat16_if_the_kernel_says_so(
    text: str, has_it: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    cpu(monkeypatch, tmp_path, text)
    assert computes_bfloat16("cpu") is has_it
    assert best_dtype("cpu", [large(tmp_path)]) == ("bfloat16" if has_it else "float32")


@pytest.mark.parametrize(
    ("capability", "has_it"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_a_gpu_computes_bfloat16_from_capability_8_on(
    capability: tuple[int, int], has_it: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_bfloat16("cuda:0") is computes_bfloat16("auto") is has_it


def test_small_models_are_computed_in_float32_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    cpu(monkeypatch, tmp_path, AMX)
    shipped = [str(folder("lm")), str(folder("judge"))]
    assert are_small(shipped)
    assert best_dtype("cpu", shipped) == "float32"
    # All of them count, and a model that is not here is none of the small ones.
    assert not are_small([*shipped, large(tmp_path)])
    assert not are_small([*shipped, "owner/model"])


@pytest.mark.parametrize("named", ["auto", "float32", "bfloat16"])
def test_engines_are_loaded_in_the_type_that_is_named_or_found(
    named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    cpu(monkeypatch, tmp_path, AMX)
    monkeypatch.setattr(dtype, "SMALL_BYTES", 0)  # the embedded models as large ones
    runtime = Runtime(device="cpu", dtype=named)  # type: ignore[arg-type]
    engines = load_engines(reward=Reward("embedded"), runtime=runtime)
    rollouts = next(e for e in engines.engines if type(e).__name__ == "RolloutEngine")
    found = torch.float32 if named == "float32" else torch.bfloat16
    assert rollouts._lm.table.dtype is found
