"""What a row is expected to cost, beside what rows of the embedded task cost."""

import pytest
import torch

from nabla_core import Reward, drive, load_engines
from nabla_core.config import (
    GGRO,
    MCTS,
    Beam,
    BestOfN,
    Decoding,
    NablaConfig,
    Ranked,
    Sampling,
    Steps,
)
from nabla_core.embedded import task
from nabla_core.embedded.weights import model_location
from nabla_core.guide_training.value_head import new_value_head
from nabla_core.methods.counterfactuals import Explore, explore
from nabla_core.methods.dispatch import flow
from nabla_core.model_config import LM, Runtime
from nabla_core.models.loading import load_language_model
from pipeline.preview.cost import of_decoding, of_exploration
from pipeline.preview.models import inspect

# A response has eight values, seven separators and the stop token; a prompt 17 tokens.
LENGTH, PROMPT = 16, 17
PROMPTS = task.prompts(16, seed=0, split="test")


def ranked(**settings: float | None) -> Decoding:
    search = NablaConfig(proposals="ranked", rollout=Sampling(0), ranked=Ranked(**settings))
    return Decoding(max_tokens=LENGTH, nabla=search)


def method(name: str, **settings) -> Decoding:
    return Decoding(method=name, max_tokens=LENGTH, **settings)


LED = Sampling(0, beta=0.25)
ON_TAILS = NablaConfig(proposals="ranked", rollout=LED, ranked=Ranked(reward_weight=2.0))
STEPS = Steps(separator=";", tokens=4)
DRAWN = BestOfN(4, Sampling(1.0, beta=0.25))


@pytest.fixture(scope="module")
def value_head(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A value head on the embedded LM."""
    path = str(tmp_path_factory.mktemp("value_head"))
    lm = load_language_model(
        model_location("embedded", "lm"),
        revision=None,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    new_value_head(lm, width=32, output="lm", seed=0).save_pretrained(path)
    return path


def test_a_value_head_costs_its_network_alone(value_head: str):
    search = ranked(reward_weight=2.0)
    reward = Reward(guide=value_head)
    engines = load_engines("embedded", reward, Runtime(device="cpu"))
    traces = list(drive((flow(p, search) for p in PROMPTS), engines))
    flops = sum(trace.cost.flops for trace in traces) / len(traces)
    models = inspect(LM(), reward)
    expected = of_decoding(search, models, PROMPT)
    assert 0.95 <= expected.flops / flops <= 1.7
    null = of_decoding(ranked(beta=None, reward_weight=2.0), models, PROMPT)
    assert expected.reward_passes == null.reward_passes
    assert models.parameters == inspect(LM(), Reward()).parameters + 64 * (2 * 32 + 24) + 32


@pytest.mark.parametrize(
    ("guide", "decoding", "most"),
    [
        ("embedded-head", ranked(reward_weight=2.0), 1.7),
        ("embedded", ranked(reward_weight=2.0), 1.7),
        (None, ranked(reward_weight=2.0), 1.7),
        (None, ranked(beta=None, reward_weight=2.0), 1.4),
        ("embedded", method("nabla"), 2.5),
        ("embedded-head", method("guided", guided=LED), 1.1),
        ("embedded-head", method("nabla", nabla=ON_TAILS), 2.5),
        ("embedded-head", method("best_of_n", best_of_n=DRAWN), 1.1),
        (None, method("greedy"), 1.1),
        (None, method("best_of_n"), 1.1),
        (None, method("majority"), 1.1),
        (None, method("mh"), 2.0),
        (None, method("beam", beam=Beam(2, 2, STEPS)), 2.5),
        (None, method("mcts", mcts=MCTS(4, steps=STEPS)), 2.5),
        (None, method("ggro", ggro=GGRO(0.1, min_segment=2, refinements=3)), 4.0),
        ("embedded", method("ggro", ggro=GGRO(0.1, min_segment=2, refinements=3)), 4.0),
    ],
    ids=[
        *("head", "gradient", "judge", "null", "adam", "guided", "guided search", "guided best"),
        *("greedy", "best", "majority", "mh"),
        *("beam", "mcts", "ggro", "ggro with a guide"),
    ],
)
def test_the_estimate_is_an_upper_one_and_not_far_off(guide, decoding, most):
    reward = Reward(guide=guide)
    engines = load_engines("embedded", reward, Runtime(device="cpu"))
    costs = [trace.cost for trace in drive((flow(p, decoding) for p in PROMPTS), engines)]
    expected = of_decoding(decoding, inspect(LM(), reward), PROMPT)

    def mean(name: str) -> float:
        return sum(getattr(cost, name) for cost in costs) / len(costs)

    assert mean("rollouts") <= expected.rollouts
    assert mean("generated_tokens") <= 1.1 * expected.generated_tokens
    assert mean("rm_forward") + mean("rm_backward") <= expected.reward_passes
    assert 0.95 <= expected.flops / mean("flops") <= most


def test_counterfactuals_cost_what_is_expected():
    engines = load_engines("embedded", Reward(), Runtime(device="cpu"))
    settings = Explore(positions=3, alternatives=4)
    flows = (explore(p, settings, lambda *_: None, max_tokens=LENGTH) for p in PROMPTS)
    costs = [explored.cost for explored in drive(flows, engines)]
    expected = of_exploration(settings, LENGTH, inspect(LM(), Reward()), PROMPT)
    assert {cost.rollouts for cost in costs} == {expected.rollouts} == {13}
    assert {cost.rm_forward for cost in costs} == {expected.reward_passes}
    assert expected.flops == pytest.approx(sum(c.flops for c in costs) / len(costs), rel=0.15)
