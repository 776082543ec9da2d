"""A worker whose writer thread fails ends the run with its error, on a real Ray."""

from dataclasses import dataclass, replace

import pytest

from nabla_core.engines.scripted import scripted
from nabla_core.model_config import LM
from pipeline.errors import RunError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.generate.recipe import TraceMaker, TraceRecipe
from pipeline.inputs.prompts import Prompts
from pipeline.run.driver import execute
from tests.pipeline.run.test_driver import Silent


class Maker(TraceMaker):
    """Cannot make a dead letter, which is made in the writer thread."""

    def dead(self, prompt):
        raise OverflowError("timeout value is too large")


@dataclass(frozen=True, kw_only=True)
class Recipe(TraceRecipe):
    def open(self):
        return Maker(self, scripted())


@pytest.mark.long
@pytest.mark.timeout(120)
def test_the_run_ends_with_the_error_of_the_thread(cluster, prompts, tmp_path):
    config = GenerateConfig(
        run_dir=str(tmp_path / "run"),
        prompts=Prompts(path=str(prompts("one", "!raise", "two"))),
        lm=LM("scripted"),
    )
    described = plan(config)
    described = replace(described, recipe=Recipe(**vars(described.recipe)))
    message = "cannot commit rows to .*: the writer thread failed: OverflowError: timeout value"
    with pytest.raises(RunError, match=message):
        execute(described, Silent())
