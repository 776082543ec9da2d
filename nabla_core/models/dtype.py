"""`dtype: auto`: the type in which models are computed, by a rule that needs no measurement.

float32   models whose weights take less than 64 MiB together (the embedded ones): what bfloat16
          saves is nothing beside Python, and its rounding changes what is drawn
bfloat16  where the hardware computes it: a GPU of compute capability 8 or more (NVIDIA Ampere,
          2020, and all later ones), a CPU with AVX512-BF16, AMX-BF16 or Arm's BF16
float32   everywhere else
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Dtype = Literal["float32", "bfloat16"]

SMALL_BYTES = 64 << 20
_WEIGHTS = ("*.safetensors", "*.bin")
_CPU_INFO = Path("/proc/cpuinfo")
# As the kernel names them; bf16 is Arm's.
_CPU_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
_CAPABILITY = 8


def best_dtype(device: str, paths: Iterable[str]) -> Dtype:
    """The type for models at `paths` on a torch device of this machine; `auto` is its first GPU,
    else its CPU."""
    return "bfloat16" if not are_small(paths) and computes_bfloat16(device) else "float32"


def are_small(paths: Iterable[str]) -> bool:
    """Whether the weights of all these folders together are small. What is no folder here, a model
    from the hub for example, is not."""
    size = 0
    for folder in {Path(path).expanduser() for path in paths}:
        files = [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
        if not files:
            return False
        size += sum(file.stat().st_size for file in files)
    return size < SMALL_BYTES


def computes_bfloat16(device: str) -> bool:
    """Whether a torch device of this machine has units for bfloat16."""
    if device == "cpu":
        return bool(_cpu_flags() & _CPU_FLAGS)
    import torch  # noqa: PLC0415 - it takes seconds, and drivers ask for CPUs only

    if device == "auto" and not torch.cuda.is_available():
        return computes_bfloat16("cpu")
    if device == "auto" or device.startswith("cuda"):
        index = torch.device("cuda" if device == "auto" else device)
        return torch.cuda.get_device_capability(index)[0] >= _CAPABILITY
    return False


def _cpu_flags() -> frozenset[str]:
    """The features of this CPU; none where the system does not list them in this way."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(values.split())
    return frozenset()
