"""The public names of the package, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import nabla_core


def test_the_public_names():
    """What users may import; a change here is a change for them."""
    assert nabla_core.__all__ == [
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
    assert all(getattr(nabla_core, name) is not None for name in nabla_core.__all__)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(nabla_core, "nable")


def test_importing_the_package_imports_neither_torch_nor_transformers():
    code = (
        "import sys, nabla_core\n"
        "heavy = {'torch', 'transformers', 'numpy', 'ray', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "nabla_core.NablaConfig(), nabla_core.Prompt.of('1+1', id='p')\n"
        "nabla_core.flow(nabla_core.Prompt.of('1+1', id='p'), nabla_core.Decoding())\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
