import pytest

from pipeline.run.prompt_status import PromptState, PromptStatus, from_table, to_table


def test_statuses_pass_through_a_table_in_order():
    statuses = [PromptStatus((f"p{n}", n), state, f"d{n}") for n, state in enumerate(PromptState)]
    found = list(from_table(to_table(statuses)))
    assert found == statuses
    assert all(isinstance(status.state, PromptState) for status in found)


def test_an_unknown_state_is_refused():
    table = to_table([PromptStatus(("p", 0), PromptState.DONE)])
    other = table.set_column(2, "state", [["finished"]])
    with pytest.raises(ValueError, match="'finished' is not a valid PromptState"):
        list(from_table(other))
