from nabla_core.types import Prompt
from pipeline.inputs.prompt_forms import PromptForms
from pipeline.inputs.prompts import Item

USER = {"role": "user", "content": "1+1"}
SYSTEM = {"role": "system", "content": "Add."}


def test_system_turns_and_tools_are_counted_wherever_they_come_from():
    prompts = [
        Prompt("a", (USER,), tools=({"name": "add"},)),
        Prompt("b", (USER,), system="Add."),
        Prompt("c", (SYSTEM, USER)),
        Prompt("d", (USER,)),
    ]
    items = [Item(prompt, prompt.id) for prompt in prompts]
    forms = PromptForms()
    assert forms.common(0) == frozenset()
    assert list(forms.counted(items)) == items
    assert (forms.prompts, forms.counts) == (4, {"system": 2, "tools": 1})
    assert forms.common(0.5) == frozenset()
    assert forms.common(0.49) == {"system"}
    assert forms.common(0.24) == {"system", "tools"}
