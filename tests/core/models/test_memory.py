"""The estimate of memory beside what torch allocates on the CPU: tensors, each counted once."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from nabla_core.models.forward import Reading, likelihood, read
from nabla_core.models.kv_buffer import KeyValueBuffer
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.memory import Sizes, grown
from tests.allocated import allocated

VOCABULARY = 400
ROWS, TOKENS = 4, 96
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
}
MODELS = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"intermediate_size": 512, "num_key_value_heads": 2}),
    "llama": (
        LlamaForCausalLM,
        LlamaConfig,
        {"intermediate_size": 256, "num_key_value_heads": 8, "head_dim": 32},
    ),
}


@pytest.fixture(params=[(m, d) for m in MODELS for d in (torch.float32, torch.bfloat16)], ids=str)
def model(request):
    name, dtype = request.param
    kind, config, more = MODELS[name]
    torch.manual_seed(0)
    lm = kind(config(**SHAPE, **more)).to(dtype).eval().requires_grad_(False)
    return SimpleNamespace(
        lm=lm,
        body=lm.model,
        device=torch.device("cpu"),
        embed=lm.get_input_embeddings(),
        sizes=Sizes.of(lm.config, VOCABULARY),
        itemsize=dtype.itemsize,
    )


READINGS = [Reading(tuple(range(n, n + TOKENS))) for n in range(ROWS)]


def run(model, *, gradient, checkpoint=False):
    with torch.set_grad_enabled(gradient):
        done = read(model, READINGS, gradient=gradient, return_cache=False, checkpoint=checkpoint)
        if gradient:
            torch.autograd.grad(done.hidden.sum(), done.embeddings)


def test_a_pass_takes_the_activations_of_a_layer(model):
    found = allocated(lambda: run(model, gradient=False))
    assert model.sizes.reading(ROWS * TOKENS, model.itemsize) == pytest.approx(found, rel=0.25)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_gradient_keeps_those_of_all_layers(model, checkpoint):
    found = allocated(lambda: run(model, gradient=True, checkpoint=checkpoint))
    expected = model.sizes.sweeping(ROWS * TOKENS, model.itemsize, checkpoint=checkpoint)
    assert expected == pytest.approx(found, rel=0.25)


def test_a_cache_holds_a_key_and_a_value_a_layer(model):
    done = read(model, READINGS, gradient=False, return_cache=True)
    cache = done.prefix_cache(0, TOKENS)
    held = sum(t.numel() * t.element_size() for t in cache.kv)
    assert model.sizes.cached(TOKENS, model.itemsize) == held


@pytest.mark.parametrize("length", [10, 200])
def test_a_batch_that_is_decoded_grows_by_copies(length):
    sizes = Sizes(layers=2, hidden=16, attention=16, keys=8, inner=32, outputs=9)

    def decode():
        buffer = KeyValueBuffer()
        kv = torch.zeros(ROWS, 2, 30, 4 * 4)  # what the prompts were read into
        parts = [[*row.unsqueeze(0).split(4, -1)] for row in kv]
        buffer.add([PrefixCache(part, tuple(range(30))) for part in parts])
        for _ in range(length):
            buffer.make_room()
            buffer.written()

    expected = sizes.cached(grown(ROWS, 30, length), 4)
    assert expected == pytest.approx(allocated(decode), rel=0.25)


def test_the_likelihood_of_a_long_response_takes_no_more_than_a_block():
    hidden = torch.randn(600, 16)
    lm = SimpleNamespace(
        head=SimpleNamespace(out_features=30_000, weight=torch.randn(30_000, 16)),
        logits=lambda states: states @ lm.head.weight.T,
    )
    tokens = torch.zeros(600, dtype=torch.int64)
    found = allocated(lambda: likelihood(lm, hidden, tokens, gradient=False))
    sizes = Sizes(layers=1, hidden=16, attention=16, keys=16, inner=32, outputs=30_000)
    assert sizes.scoring(600) == pytest.approx(found, rel=0.25)
    assert sizes.scoring(600) == sizes.scoring(6_000)
    assert sizes.scoring(60) < sizes.scoring(600) / 2
