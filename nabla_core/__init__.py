"""Test-time gradients for reasoning: refine a language model's answers, one prompt at a time
or many at once.

    engines = load_engines("embedded")
    for trace in drive((nabla(p, NablaConfig(), seed=0) for p in prompts), engines):
        print(trace.prompt_id, trace.base_reward, trace.reward, trace.text)

Importing this package does not import torch; `load_engines` does, when it is first used.
"""

from typing import TYPE_CHECKING, Any

from nabla_core.config import (
    DTO,
    GGRO,
    MCTS,
    MH,
    Beam,
    BestOfN,
    Decoding,
    Majority,
    NablaConfig,
    Objective,
    Ranked,
    Sampling,
    Select,
    Steps,
)
from nabla_core.errors import NablaError
from nabla_core.methods.baselines import best_of_n, greedy, majority, sample
from nabla_core.methods.beam import beam
from nabla_core.methods.dispatch import flow
from nabla_core.methods.ggro import ggro
from nabla_core.methods.mcts import mcts
from nabla_core.methods.metropolis import mh
from nabla_core.methods.nabla import nabla
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.scheduler import Scheduler, drive
from nabla_core.types import Cost, Prompt, Revision, Trace

if TYPE_CHECKING:
    from nabla_core.engines.loading import load_engines

__version__ = "0.2.0"

__all__ = [
    "DTO",
    "GGRO",
    "LM",
    "MCTS",
    "MH",
    "Beam",
    "BestOfN",
    "Cost",
    "Decoding",
    "Majority",
    "NablaConfig",
    "NablaError",
    "Objective",
    "Prompt",
    "Ranked",
    "Revision",
    "Reward",
    "Runtime",
    "Sampling",
    "Scheduler",
    "Select",
    "Steps",
    "Trace",
    "beam",
    "best_of_n",
    "drive",
    "flow",
    "ggro",
    "greedy",
    "load_engines",
    "majority",
    "mcts",
    "mh",
    "nabla",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name == "load_engines":
        from nabla_core.engines.loading import load_engines  # noqa: PLC0415 - imports torch

        return load_engines
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
