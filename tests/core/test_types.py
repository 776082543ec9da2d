"""Records: costs add up field by field, revisions of folders are digests."""

from __future__ import annotations

import pytest

from nabla_core.types import Cost, Identity, Prompt, Revision


def test_costs_add_field_by_field():
    one = Cost(rollouts=1, lm_forward=2, flops=3.5, paper_calls=4)
    other = Cost(rollouts=2, rm_backward=1, flops=0.5, seconds=0.25)
    assert one + other == Cost(
        rollouts=3, lm_forward=2, rm_backward=1, flops=4.0, paper_calls=4, seconds=0.25
    )
    assert one + Cost() == one


def test_a_digest_identifies_a_model_whatever_its_name():
    assert Identity("a", "sha256:0123").digested
    assert not Identity("org/model", "0123456789").digested


def test_the_text_of_a_prompt_is_its_last_turn():
    prompt = Prompt.of("7+8", id="p", answer="5", sample=2)
    assert (prompt.text, prompt.system, prompt.sample) == ("7+8", None, 2)


def test_revisions_are_built_by_name():
    with pytest.raises(TypeError):
        Revision(0, 1, 2, "1", "2", 0.5, 0.1, 0.2, 0.3, 0.4, True)  # type: ignore[misc]
