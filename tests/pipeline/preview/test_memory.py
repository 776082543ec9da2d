"""The memory of a run, beside what a run in this process allocates."""

from dataclasses import replace

import pytest
import torch
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core import Reward, Runtime, drive, load_engines
from nabla_core.config import Decoding, Majority, NablaConfig, Ranked, Sampling
from nabla_core.embedded import task, tokenizer
from nabla_core.methods.dispatch import flow
from nabla_core.model_config import LM
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
    ],
    ids=["greedy", "majority", "search", "null"],
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
