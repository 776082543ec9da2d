from nabla_core.types import Prompt
from pipeline.inputs.prompts import Item
from pipeline.inputs.system_turns import SystemTurns

USER = {"role": "user", "content": "1+1"}
SYSTEM = {"role": "system", "content": "Add."}


def test_system_turns_are_counted_wherever_they_come_from():
    prompts = [
        Prompt("a", (USER,)),
        Prompt("b", (USER,), system="Add."),
        Prompt("c", (SYSTEM, USER)),
        Prompt("d", (USER,)),
    ]
    items = [Item(prompt, prompt.id) for prompt in prompts]
    turns = SystemTurns()
    assert turns.share == 0
    assert list(turns.counted(items)) == items
    assert (turns.prompts, turns.with_turn, turns.share) == (4, 2, 0.5)
