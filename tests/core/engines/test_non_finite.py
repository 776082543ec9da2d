"""Models that write NaN or infinity for some prompts: each of these prompts ends in one error that
names it, whatever the method, and the others in the responses that they have alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nabla_core import BestOfN, NablaConfig, Prompt, Ranked, Runtime, Sampling, Select, drive
from nabla_core.config import DTO, MH, Decoding, Majority, Objective
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import load_engines
from nabla_core.errors import ModelError, NonFiniteError
from nabla_core.methods.counterfactuals import Explore, explore
from nabla_core.methods.dispatch import flow
from nabla_core.model_config import LM, Reward
from nabla_core.models.logit_map import LogitMap
from nabla_core.sampling import draw
from tests.core.tiny import LETTERS, Family, characters, qwen2, reward_folder, save

TOKENIZER = characters(LETTERS)
POISON = TOKENIZER.convert_tokens_to_ids("p")  # beyond the ids that loading probes
GOOD, BAD = ["1+1", "7*8", "a b c"], ["p", "1p", "7*8p1"]
PROMPTS = [Prompt.of(text, id=text) for pair in zip(GOOD, BAD, strict=True) for text in pair]
WARM = Sampling(temperature=0.8, top_p=0.9)
# The rows of the likelihood have an entry for every token, the letter that fails among them.
REWARD_ALONE = Objective(nll_coeff=0.0)
GREEDY = NablaConfig(rollout=Sampling(), max_rollouts=2, objective=REWARD_ALONE)
METHODS = [
    Decoding("greedy", max_tokens=8),
    Decoding("sample", max_tokens=8, sample=WARM),
    Decoding("best_of_n", max_tokens=8, best_of_n=BestOfN(2, WARM)),
    Decoding("majority", max_tokens=8, majority=Majority(2, WARM)),
    Decoding("mh", max_tokens=8, mh=MH(steps=2)),
    Decoding(max_tokens=8, nabla=GREEDY),
    Decoding(max_tokens=8, nabla=replace(GREEDY, proposals="ranked", ranked=Ranked(min_score=-9))),
]


def poisoned(folder: Path, value: float, roles: tuple[str, ...]) -> Family:
    """Qwen2 models of which those in `roles` embed one letter as `value`."""
    from transformers import Qwen2ForCausalLM  # noqa: PLC0415 - slow to import

    size = len(TOKENIZER)
    torch.manual_seed(3)
    model = Qwen2ForCausalLM(qwen2(size))
    if "lm" in roles:
        _poison(model, value)
    lm = save(folder / "lm", model, TOKENIZER)
    for role in ("judge", "guide"):
        reward_folder(folder / role, qwen2(size, num_labels=1), TOKENIZER, seed=len(role))
        if role in roles:
            _rewrite(folder / role, lambda model: _poison(model, value))
    return Family(lm, folder / "judge", folder / "guide")


def _poison(model: Any, value: float) -> None:
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = value


def _rewrite(folder: Path, change: Callable[[Any], None]) -> None:
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415 - as above

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    change(model)
    model.save_pretrained(folder)


def outcomes(engines: Engines, decoding: Decoding) -> dict[str, Any]:
    """The response's tokens or the error of each prompt."""
    found: dict[str, Any] = {}

    def failed(index: int, error: Exception) -> None:
        found[PROMPTS[index].id] = error

    more = {"answer": lambda text: text} if decoding.method == "majority" else {}
    flows = (flow(prompt, decoding, seed=0, **more) for prompt in PROMPTS)
    for trace in drive(flows, engines, failed=failed):
        found[trace.prompt_id] = trace.tokens
    return found


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    return poisoned(tmp_path_factory.mktemp("healthy"), 0.0, ()).engines(Runtime(device="cpu"))


@pytest.fixture(scope="module", params=["nan", "inf"])
def lm_fails(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    folder = tmp_path_factory.mktemp("lm")
    return poisoned(folder, float(request.param), ("lm",)).engines(Runtime(device="cpu"))


@pytest.mark.parametrize("decoding", METHODS, ids=lambda d: f"{d.method} {d.nabla.proposals}")
def test_logits_that_are_not_finite_are_the_error_of_their_prompt(
    lm_fails: Engines, healthy: Engines, decoding: Decoding
):
    found, expected = outcomes(lm_fails, decoding), outcomes(healthy, decoding)
    for prompt in BAD:
        assert type(found[prompt]) is NonFiniteError, found[prompt]
        told = f"prompt {prompt}: the LM's logits at position 0 of the response are not finite"
        assert str(found[prompt]) == told
    assert [found[prompt] for prompt in GOOD] == [expected[prompt] for prompt in GOOD]
    assert all(isinstance(found[prompt], tuple) for prompt in GOOD)


@pytest.mark.parametrize(
    "decoding", [m for m in METHODS if m.method != "majority"], ids=lambda d: d.method
)
def test_a_reward_that_is_not_finite_is_the_error_of_its_prompt(tmp_path: Path, decoding: Decoding):
    engines = poisoned(tmp_path, float("nan"), ("judge",)).engines(Runtime(device="cpu"))
    found = outcomes(engines, decoding)
    for prompt in BAD:
        assert type(found[prompt]) is NonFiniteError, found[prompt]
        assert str(found[prompt]) == f"prompt {prompt}: a reward is not finite"


def test_a_guides_gradient_that_is_not_finite_is_the_error_of_its_prompt(tmp_path: Path):
    engines = poisoned(tmp_path, float("nan"), ("guide",)).engines(Runtime(device="cpu"))
    found = outcomes(engines, METHODS[-1])
    for prompt in BAD:
        assert type(found[prompt]) is NonFiniteError, found[prompt]
        assert str(found[prompt]).startswith(f"prompt {prompt}: a reward")


def test_a_counterfactual_that_is_not_finite_is_the_error_of_its_prompt(lm_fails: Engines):
    failures: dict[int, Exception] = {}
    config = Explore(alternatives=2)
    flows = (explore(p, config, lambda prompt, text: None, max_tokens=6) for p in PROMPTS)
    done = list(drive(flows, lm_fails, failed=failures.__setitem__))
    assert len(done) == len(GOOD)
    assert {PROMPTS[n].id for n in failures} == set(BAD)
    assert all(str(e).startswith(f"prompt {PROMPTS[n].id}: ") for n, e in failures.items())
    assert {type(error) for error in failures.values()} == {NonFiniteError}


def test_a_step_out_of_the_range_of_numbers_is_the_error_of_its_prompt(healthy: Engines):
    every = Select(confidence_threshold=1.0)
    config = NablaConfig(rollout=Sampling(), select=every, dto=DTO(learning_rate=3e38))
    found = outcomes(healthy, Decoding(max_tokens=8, nabla=config))
    assert {type(result) for result in found.values()} == {NonFiniteError}
    assert all(str(error).startswith(f"prompt {prompt}: ") for prompt, error in found.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("sampling", [Sampling(), WARM, Sampling(temperature=1, top_k=2)], ids=str)
def test_no_token_is_drawn_from_what_is_no_distribution(value: float, sampling: Sampling):
    logits, numbers = torch.zeros(2, 4), torch.full((2,), 0.5, dtype=torch.float64)
    logits[1, 2] = value
    with pytest.raises(NonFiniteError):
        draw(logits, sampling, numbers)
    logits[1] = float("-inf")
    with pytest.raises(NonFiniteError):
        draw(logits, sampling, numbers)
    logits[1, 3] = 0.0  # an id that may not be drawn has minus infinity
    assert draw(logits, sampling, numbers)[1] == 3


def test_a_soft_cap_hides_no_infinite_logit():
    outputs = torch.tensor([float("inf"), float("-inf"), float("nan"), 3.0])
    found = LogitMap(scale=2.0, cap=3.0)(outputs)
    assert found.isfinite().tolist() == [False, False, False, True]
    assert found[3] == pytest.approx(3 * math.tanh(2))


def test_weights_that_are_not_finite_at_all_are_refused(tmp_path: Path):
    family = poisoned(tmp_path, 0.0, ())

    def damage(model: Any) -> None:
        with torch.no_grad():
            model.score.weight[:] = float("nan")

    _rewrite(family.judge, damage)
    with pytest.raises(ModelError, match=rf"{family.judge}: its outputs are not finite"):
        load_engines(LM(str(family.lm)), Reward(judge=str(family.judge)), Runtime(device="cpu"))
