"""Rendering prompts and decoding texts, as the engine serves them."""

from __future__ import annotations

import pytest

from nabla_core.engines.base import Engines
from nabla_core.errors import ContextError
from nabla_core.requests import Context, Decode, Render
from nabla_core.types import Prompt
from tests.core.tiny import Family


def ask(engines: Engines, request: object) -> object:
    engine = engines.serving(type(request))  # type: ignore[arg-type]
    engine.submit(0, request)  # type: ignore[arg-type]
    ((_, result),) = engine.step()
    if isinstance(result, Exception):
        raise result
    return result.value


def test_render_shows_every_model_its_own_ids(grouped: Family):
    engines = grouped.engines()
    prompt = Prompt("p", ({"role": "user", "content": "1+1"},), system="b")
    context = ask(engines, Render(prompt))
    assert isinstance(context, Context)
    lm, judge = grouped.tokenizer("lm"), grouped.tokenizer("judge")
    assert context.text == "b\n\n1+1"
    assert context.lm == tuple(lm.encode("b\n\n1+1"))
    assert context.lm.count(lm.bos_token_id) == 1
    assert judge.decode(context.judge[0]) == "<|system|>b<eos>\n<|user|>1+1<eos>\n<|assistant|>"
    assert judge.decode(context.judge[1]) == "<eos>\n"
    assert context.guide == context.judge


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "prompt p is empty"), ("7" * 64, r"prompt p is 64 tokens long; the LM's context is 64")],
)
def test_prompts_that_cannot_be_answered_are_refused(plain: Family, text: str, named: str):
    with pytest.raises(ContextError, match=named):
        ask(plain.engines(), Render(Prompt.of(text, id="p")))


def test_decode_leaves_special_tokens_out_unless_asked(plain: Family):
    engines = plain.engines()
    tokens = ((10, 13, 1), (1,))
    assert ask(engines, Decode(tokens)) == ["7+", ""]
    assert ask(engines, Decode(tokens, special=True)) == ["7+<eos>", "<eos>"]
