"""The estimate against torch's counter, which counts eager attention as the full square: a
causal kernel skips what the mask hides, and a fused backward forms the scores once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import DynamicCache, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.config import NablaConfig, Objective, Ranked
from nabla_core.draws import DrawKey
from nabla_core.engines.base import Engines
from nabla_core.models.flops import Shape
from nabla_core.requests import Propose, Render, Reply, Rollout, Score, Sweep
from nabla_core.types import Prompt
from tests.core.reference import guide_of, serve
from tests.core.tiny import Family, characters, greedy_search, qwen2, save

WIDE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_implementation": "eager",
}


class Counter(TorchDispatchMode):
    """Torch's own formulas for every operation run. (Its `FlopCounterMode` hangs hooks on
    modules, which a gradient with respect to a leaf does not survive.)"""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            # Inference mode leaves composite operations whole.
            with self:
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        name = str(func._overloadpacket).removeprefix("aten.")
        self.found[name] = self.found.get(name, 0) + formula(*args, **kwargs, out_val=result)
        return result


def counted(run: Callable[[], object]) -> dict[str, int]:
    """Counted operations: `linear` layers, and the products of `attention`."""
    with Counter() as counter:
        run()
    linear = counter.found.pop("mm", 0) + counter.found.pop("addmm", 0)
    attention = counter.found.pop("bmm", 0)
    assert not counter.found
    return {"linear": linear, "attention": attention}


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(qwen2(24, **WIDE)).eval().requires_grad_(False)


@pytest.mark.parametrize("length", [1, 7, 60])
def test_a_forward_pass(model: Any, length: int):
    shape = Shape.of(model.model, model.config, 24)
    e = torch.randn(1, length, 64)
    found = counted(lambda: model.model(inputs_embeds=e))
    visible = (length + 1) / (2 * length)
    expected = found["linear"] + found["attention"] * visible
    assert shape.forward(length) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("length", [7, 60])
def test_a_backward_pass_to_the_inputs(model: Any, length: int):
    shape = Shape.of(model.model, model.config, 24)
    e = torch.randn(1, length, 64, requires_grad=True)
    hidden = model.model(inputs_embeds=e).last_hidden_state
    found = counted(lambda: torch.autograd.grad(hidden.sum(), e))
    visible = (length + 1) / (2 * length)
    # Four products where a fused kernel takes five.
    expected = found["linear"] + found["attention"] * visible * 5 / 4
    assert shape.backward(length) == pytest.approx(expected, rel=0.05)


def test_a_forward_pass_behind_a_cache(model: Any):
    shape = Shape.of(model.model, model.config, 24)
    held, fed = 40, 9
    cache = DynamicCache()
    e = torch.randn(1, held + fed, 64)
    model.model(inputs_embeds=e[:, :held], past_key_values=cache, use_cache=True)
    found = counted(
        lambda: model.model(inputs_embeds=e[:, held:], past_key_values=cache, use_cache=True)
    )
    visible = (fed * held + fed * (fed + 1) / 2) / (fed * (held + fed))
    expected = found["linear"] + found["attention"] * visible
    assert shape.forward(fed, held) == pytest.approx(expected, rel=0.05)


def test_a_head(model: Any):
    shape = Shape.of(model.model, model.config, 24)
    states = torch.randn(11, 64)
    assert shape.head(11) == counted(lambda: model.lm_head(states))["linear"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """A vocabulary as wide, beside the hidden size, as real ones are."""
    root = tmp_path_factory.mktemp("large")
    tokenizer = characters(
        "".join(map(chr, range(0x21, 0x7F))), more=[f"<{n}>" for n in range(900)]
    )
    size: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2}
    torch.manual_seed(0)
    lm = save(root / "lm", Qwen2ForCausalLM(qwen2(len(tokenizer), **size)), tokenizer)
    config = qwen2(len(tokenizer), num_labels=1, **size)
    rm = save(root / "rm", Qwen2ForSequenceClassification(config), tokenizer)
    engines = Family(lm, rm, rm).engines(two=False)
    guide = guide_of(engines)
    for body in (guide.lm.body, guide.reader.rm.body):
        body.set_attn_implementation("eager")
    return engines


def cost_and_count(engines: Engines, request: Any) -> tuple[Any, float, int]:
    """The reply of one request, its cost in operations, and the operations counted."""
    engine = engines.serving(type(request))
    engine.submit(0, request)
    replies: list[Any] = []

    def run() -> None:
        while engine.waiting:
            replies.extend(result for _, result in engine.step())

    found = counted(run)
    (reply,) = replies
    assert isinstance(reply, Reply)
    return reply.value, reply.cost.flops, found["linear"] + found["attention"]


SEARCHES = {
    "adam": greedy_search(),
    "reward alone": greedy_search(objective=Objective(nll_coeff=0)),
    "ranked": NablaConfig(proposals="ranked"),
    "ranked without gradient": NablaConfig(proposals="ranked", ranked=Ranked(beta=None)),
    "second": greedy_search(proposals="second"),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_costs_are_the_operations_counted(large: Engines, name: str):
    (context,) = serve(large, [Render(Prompt.of("what is 7*8-3?", id="p"))])
    config = SEARCHES[name]
    key = DrawKey(0, "p", 0, "rollout 0")
    response, flops, expected = cost_and_count(
        large, Rollout(context, (), 16, config.rollout, key, return_cache=True)
    )
    assert flops == pytest.approx(expected, rel=0.05)
    _, flops, expected = cost_and_count(large, Score(context, response.tokens))
    assert flops == pytest.approx(expected, rel=0.05)
    swept, flops, expected = cost_and_count(large, Sweep(context, response, 0, config))
    assert flops == pytest.approx(expected, rel=0.05)
    proposals, flops, expected = cost_and_count(large, Propose(swept.gradients, 0, 4, key))
    assert proposals
    assert flops == pytest.approx(expected, rel=0.05)
