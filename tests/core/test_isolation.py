"""The core runs where only torch and transformers are installed."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.core.tiny import Family

CODE = """
import sys

NAMES = {"ray", "omegaconf", "pyarrow", "datasets", "rich", "math_verify", "matplotlib", "trl",
         "peft", "pandas", "hypothesis", "pytest"}

class Without:
    # To this finder some packages are not installed.

    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

from nabla_core import LM, NablaConfig, Prompt, Reward, drive, load_engines, nabla

lm, judge, guide = sys.argv[1:]
engines = load_engines(LM(lm), Reward(judge=judge, guide=guide))
flows = (nabla(Prompt.of(f"{n}+{n}", id=str(n)), NablaConfig(), max_tokens=8) for n in range(3))
for trace in drive(flows, engines):
    print(trace.prompt_id, len(trace.tokens), trace.reward >= trace.base_reward)
assert not NAMES & {m.partition(".")[0] for m in sys.modules}
"""


def test_drive_without_anything_of_the_pipeline(plain: Family):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(plain.lm), str(plain.judge), str(plain.guide)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = sorted(line.split() for line in done.stdout.splitlines())
    assert [line[0] for line in lines] == ["0", "1", "2"]
    assert all(line[2] == "True" for line in lines)
