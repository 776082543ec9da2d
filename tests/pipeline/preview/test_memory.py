"""The memory of a run, beside what a run in this process allocates."""

from dataclasses import replace

import pytest
import torch
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core import Reward, Runtime, drive, load_engines
from nabla_core.config import Decoding, Majority, NablaConfig, Ranked, Sampling
from nabla_core.embedded import task, tokenizer
from nabla_core.method_config import GGRO, MCTS, Beam, Steps
from nabla_core.methods.dispatch import flow
from nabla_core.model_config import LM
from pipeline.preview.cost import of_decoding
from pipeline.preview.memory import memory
from pipeline.preview.models import inspect
from tests.allocated import allocated
from tests.core.tiny import qwen2, save

PROMPT, LENGTH, IN_FLIGHT = 17, 96, 6
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GREEDY = Sampling(temperature=0)
# Proposals enough that a sweep and rollouts of tails come in; one at a time is rolled out.
SEARCH = NablaConfig(
    proposals="ranked", max_rollouts=2, rollout=GREEDY, ranked=Ranked(min_score=-1e9)
)
NULL = replace(SEARCH, ranked=Ranked(beta=None, min_score=-1e9))
RUNTIME = Runtime(device="cpu", max_batch=4)
# The stop token is hardly ever among the three most probable ones.
DRAWN, STEPS = Sampling(temperature=1.0, top_k=3), Steps(tokens=24)
BEAM = Decoding("beam", LENGTH, beam=Beam(2, 2, STEPS, rollout=DRAWN))
TREE = Decoding("mcts", LENGTH, mcts=MCTS(4, steps=STEPS, rollout=DRAWN))
NUDGED = Decoding("ggro", LENGTH, ggro=GGRO(0.1, min_segment=24, refinements=3))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """An LM that never stops and a judge, of one size."""
    root = tmp_path_factory.mktemp("models")
    spelled = tokenizer.build()
    torch.manual_seed(0)
    lm = Qwen2ForCausalLM(qwen2(24, **SIZES))
    with torch.no_grad():
        lm.lm_head.weight[1] = 0.0  # the stop token is never the most probable one
    save(root / "lm", lm, spelled)
    judge = Qwen2ForSequenceClassification(qwen2(24, **SIZES, num_labels=1))
    save(root / "judge", judge, spelled)
    return LM(str(root / "lm")), Reward(judge=str(root / "judge"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("decoding", "runtime"),
    [
        (Decoding(method="greedy", max_tokens=LENGTH), RUNTIME),
        (Decoding(method="majority", max_tokens=LENGTH, majority=Majority(2, GREEDY)), RUNTIME),
        (Decoding(max_tokens=LENGTH, nabla=SEARCH), RUNTIME),
        (Decoding(max_tokens=LENGTH, nabla=NULL), RUNTIME),
        (BEAM, RUNTIME),
        (TREE, RUNTIME),
        (NUDGED, RUNTIME),
    ],
    ids=["greedy", "majority", "search", "null", "beam", "mcts", "ggro"],
)
def test_a_run_takes_what_is_expected(models, decoding, runtime):
    lm, reward = models
    engines = load_engines(lm, reward, runtime)
    prompts = task.prompts(10, seed=0, split="test")

    def run():
        # Responses of two lengths: some are read while others are still drawn, as in a long run.
        lengths = [LENGTH, LENGTH - 16]
        settings = [replace(decoding, max_tokens=lengths[n % 2]) for n in range(len(prompts))]
        flows = map(flow, prompts, settings)
        traces = list(drive(flows, engines, in_flight=IN_FLIGHT))
        assert max(len(trace.tokens) for trace in traces) == LENGTH

    found = inspect(lm, reward)
    expected = memory(decoding, found, runtime, in_flight=IN_FLIGHT, prompt=PROMPT, itemsize=4)
    assert expected.weights == found.parameters * 4
    most = allocated(run)
    assert expected.total - expected.weights == pytest.approx(most, rel=0.25)


@pytest.mark.long
@pytest.mark.parametrize("decoding", [BEAM, TREE, NUDGED], ids=["beam", "mcts", "ggro"])
def test_a_method_over_steps_costs_what_is_expected(models, decoding):
    lm, reward = models
    engines = load_engines(lm, reward, RUNTIME)
    prompts = task.prompts(6, seed=0, split="test")
    traces = list(drive((flow(prompt, decoding) for prompt in prompts), engines))
    assert {len(trace.tokens) for trace in traces} == {LENGTH}
    flops = sum(trace.cost.flops for trace in traces) / len(traces)
    expected = of_decoding(decoding, inspect(lm, reward), PROMPT)
    assert expected.flops == pytest.approx(flops, rel=0.25)
