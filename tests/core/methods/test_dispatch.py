"""From a config to the generator of its method."""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_type_hints

import pytest

from nabla_core import Decoding, Prompt, flow


@pytest.mark.parametrize("method", get_args(get_type_hints(Decoding)["method"]))
def test_every_method_makes_a_generator_that_first_asks_for_its_prompt(method: Any):
    prompt = Prompt.of("question", id="q")
    generator = flow(prompt, Decoding(method=method), seed=1)
    assert inspect.isgenerator(generator)
    (request,) = next(generator)
    assert request.prompt == prompt
    generator.close()
