"""Prompts with an expected answer."""

from nabla_core.types import Prompt


def asked(answer):
    return Prompt.of("1+1*0+0+0+0+0+0+0", id="x", answer=answer)
