import pyarrow as pa

from nabla_core.methods.counterfactuals import Explore
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.scheduler import drive
from nabla_core.types import Prompt
from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.plan import plan
from pipeline.counterfactuals.recipe import CounterfactualRecipe
from pipeline.grading.graders import Verify

RECIPE = CounterfactualRecipe(
    lm=LM("scripted"),
    reward=Reward(),
    explore=Explore(temperatures=(0.0,), positions=2, alternatives=3),
    runtime=Runtime(),
    verify=Verify(method="none"),
    max_tokens=16,
    seed=3,
    config_hash="c0ffee",
)
PROMPT = Prompt.of("1+2", id="p0")


def test_a_row_holds_the_explored_positions_and_fits_the_schema():
    maker = RECIPE.open()
    (explored,) = drive([maker.flow(PROMPT)], maker.engines)
    columns = maker.row(PROMPT, explored)
    assert (columns["question"], columns["scorer"], columns["seed"]) == ("1+2", "judge", 3)
    assert len(columns["places"]) == 2
    assert maker.numbers(columns) == {"places": 2.0}
    rows = [columns, maker.dead(PROMPT)]
    assert all(row.keys() <= set(RECIPE.schema.names) for row in rows)
    assert pa.Table.from_pylist(rows, schema=RECIPE.schema).num_rows == 2


def test_a_prompt_is_a_row_a_temperature():
    config = CounterfactualsConfig(explore=Explore(temperatures=(0.0, 0.5, 1.0)))
    described = plan(config)
    assert described.samples == 3
    assert described.recipe.config_hash == described.config_hash
