"""What a training starts from: examples, and prompts that have more than one use."""

import pytest

from pipeline.errors import InputError
from pipeline.train_guide.setup import subsample
from tests.pipeline.train_guide.exploration import training_state


def test_validation_prompts_that_are_trained_on_are_counted(plain, explored):
    learning = training_state(plain, explored)
    trained_on = {example.prompt_id for example in learning.train}
    assert 0 < learning.validation_overlap == sum(f"q{n}" in trained_on for n in range(4))
    other = training_state(plain, explored, "validation.prompts.path=embedded", "data.held_out=0.5")
    assert other.validation_overlap == 0


def test_a_sample_is_drawn_from_all_and_keeps_the_order():
    assert subsample([3, 1, 2], 3, seed=0) == [3, 1, 2]
    drawn = subsample(range(100), 10, seed=0)
    assert drawn == sorted(set(drawn)) == subsample(range(100), 10, seed=0)
    assert len(drawn) == 10
    assert max(drawn) > 50
    assert drawn != subsample(range(100), 10, seed=1)


def test_a_prompt_is_held_out_with_all_its_responses_in_every_training(plain, explored):
    first = training_state(plain, explored)
    second = training_state(plain, explored, "seed=7", "kind=gradient")
    for state in (first, second):
        assert {e.prompt_id for e in state.train}.isdisjoint(e.prompt_id for e in state.held_out)
    assert {e.prompt_id for e in first.held_out} == {e.prompt_id for e in second.held_out}


def test_too_few_responses_are_refused_with_the_reasons(plain, explored):
    with pytest.raises(InputError, match=r"too few: 0 to train on, .*'responses without a pos"):
        training_state(plain, explored, "data.min_log_probability=-1e-9")
