"""What a reward model reads of responses with reasoning: what its template makes of the whole
conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core import Prompt, Runtime
from nabla_core.engines.base import Engines
from nabla_core.errors import EncodingError
from nabla_core.guide_training.examples import GuideEncoder, Record
from nabla_core.guide_training.head_model import new_head
from nabla_core.methods.counterfactuals import Place
from nabla_core.models.readers import Reader, Task
from nabla_core.requests import Context, Render, Score, Sweep
from nabla_core.text.chat_template import render
from nabla_core.text.thinking import think_block
from tests.core.chat_templates import FORGETTING, PLAIN, THINKING, chat_tokenizer
from tests.core.reference import guide_of
from tests.core.tiny import Family, qwen2, reward_folder, save

TOKENIZER = chat_tokenizer(THINKING)
PROMPT = Prompt.of("7+8?", id="p")
# A response as the LM writes it, and the content of the turn that says the same.
RESPONSES = {
    "no reasoning": ("it is 15", "it is 15"),
    "a block": ("<think>\nsum\n</think>\n\nit is 15", None),
    "an empty block": ("<think>\n\n</think>\n\n15", None),
    "two lines": ("<think>\n7 and 8\nmake 15\n</think>\n\n15.", None),
    # The prompt of the LM opened the block.
    "an open block": ("sum\n</think>\n\nit is 15", None),
}


def folders(root: Path, template: str) -> Family:
    tokenizer = chat_tokenizer(template)
    size = len(tokenizer)
    torch.manual_seed(2)
    shape: dict[str, Any] = {"max_position_embeddings": 256, "eos_token_id": 4}
    lm = save(root / "lm", Qwen2ForCausalLM(qwen2(size, **shape)), tokenizer)
    judge = reward_folder(root / "rm", qwen2(size, num_labels=1, **shape), tokenizer, seed=1)
    return Family(lm, judge, judge)


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return folders(tmp_path_factory.mktemp("thinking"), THINKING)


@pytest.fixture(scope="module")
def engines(thinking: Family) -> Engines:
    return thinking.engines(Runtime(device="cpu"), two=False)


def ask(engines: Engines, request: Any) -> Any:
    engine = engines.serving(type(request))
    engine.submit(0, request)
    ((_, result),) = engine.step()
    if isinstance(result, Exception):
        raise result
    return result.value


def conversation_ids(tokenizer: Any, content: str) -> list[int]:
    turns = [*PROMPT.messages, {"role": "assistant", "content": content}]
    return tokenizer.encode(render(tokenizer, turns), add_special_tokens=False)


@pytest.mark.parametrize("name", RESPONSES)
def test_the_reward_is_that_of_the_rendered_conversation(
    thinking: Family, engines: Engines, name: str
):
    response, content = RESPONSES[name]
    tokens = TOKENIZER.encode(response, add_special_tokens=False)
    stop = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    context = ask(engines, Render(PROMPT))
    ids = conversation_ids(TOKENIZER, content or response)
    assert TOKENIZER.decode(ids).count("<think>") == 1
    model: Qwen2ForSequenceClassification = thinking.raw("judge")
    expected = model.score(model.model(torch.tensor([ids])).last_hidden_state[0, -1])
    for given in ((*tokens,), (*tokens, stop)):
        found = ask(engines, Score(context, given)).reward
        assert found == pytest.approx(expected.item(), abs=1e-5)


def test_gradients_belong_to_the_tokens_of_the_response(engines: Engines):
    """A response with and one without a block in one batch: each as alone."""
    reader: Reader = guide_of(engines).reader
    context: Context = ask(engines, Render(PROMPT))
    texts = [response for response, _ in RESPONSES.values()]
    tokens = [tuple(TOKENIZER.encode(t, add_special_tokens=False)) for t in texts]

    def read(of: list[tuple[int, ...]]) -> list[Any]:
        tasks = [Task(context, t) for t in of]
        frames = [context.guide] * len(of)
        return reader.read(tasks, frames, gradient=True, return_cache=False)

    together = read(tokens)
    for one, given in zip(together, tokens, strict=True):
        (alone,) = read([given])
        assert one.input_gradient.shape[0] == len(given)
        torch.testing.assert_close(one.input_gradient, alone.input_gradient, atol=1e-5, rtol=1e-4)
        assert one.reward == pytest.approx(alone.reward, abs=1e-5)


def test_a_head_and_its_training_read_the_same(thinking: Family, tmp_path: Path):
    head = new_head(str(thinking.lm))
    with torch.no_grad():
        head.get_output_embeddings().weight.normal_()
    folder = save(tmp_path / "head", head, TOKENIZER)
    family = Family(thinking.lm, thinking.judge, folder)
    engines = family.engines(Runtime(device="cpu"))
    guide = engines.serving(Sweep)._guide  # type: ignore[attr-defined]
    response = RESPONSES["a block"][0]
    tokens = tuple(TOKENIZER.encode(response, add_special_tokens=False))
    encoder = GuideEncoder(
        tokenizer=TOKENIZER,
        vocabulary=guide.vocabulary,
        stop=frozenset({4}),
        context=256,
        kind="head",
    )
    places = (Place(0, 0.5, tokens[:2], (0.0, 0.0), (0.0, 1.0)),)
    example = encoder.encode(Record("r", PROMPT, tokens, 0.0, places))
    # All but what closes the turn: attention is causal.
    ids = conversation_ids(TOKENIZER, response)
    assert list(example.ids) == ids[: len(example.ids)]
    assert example.ids[example.positions[0].index] == tokens[0]
    task = Task(ask(engines, Render(PROMPT)), tokens)
    ((state, _),) = guide._read_head([task])
    body = head.base_model(torch.tensor([ids])).last_hidden_state[0]
    first = example.positions[0].index
    expected = body[first - 1 : first - 1 + len(tokens)]
    torch.testing.assert_close(state.hidden, expected, atol=1e-5, rtol=1e-4)


def test_a_template_that_leaves_reasoning_out_judges_no_reasoning(tmp_path: Path):
    engines = folders(tmp_path, FORGETTING).engines(Runtime(device="cpu"), two=False)
    context = ask(engines, Render(PROMPT))
    fine = tuple(TOKENIZER.encode("it is 15", add_special_tokens=False))
    assert isinstance(ask(engines, Score(context, fine)).reward, float)
    reasoned = tuple(TOKENIZER.encode(RESPONSES["a block"][0], add_special_tokens=False))
    with pytest.raises(EncodingError, match=r"prompt p: the response reasons .* leaves reasoning"):
        ask(engines, Score(context, reasoned))


@pytest.mark.parametrize("template", [PLAIN, None])
def test_other_templates_know_no_think_block(template: str | None):
    assert think_block(chat_tokenizer(template)) is None
