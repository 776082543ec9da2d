"""The product gives the same tokens and the same decisions as the literal algorithm."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from nabla_core import (
    DTO,
    NablaConfig,
    Objective,
    Prompt,
    Reward,
    Sampling,
    Select,
    Trace,
    drive,
    load_engines,
    nabla,
)
from nabla_core.embedded import task, weights
from tests.oracle.literal import Literal, Models, Outcome

torch.set_num_threads(1)

SEED, MAX_TOKENS = 3, 20
GREEDY = Sampling(0)

published = NablaConfig(
    rollout=GREEDY, select=Select(0.98), dto=DTO(learning_rate=0.01), resample=Sampling(0.5)
)
flips = NablaConfig(
    rollout=GREEDY, select=Select(0.98), dto=DTO(learning_rate=0.3), resample=GREEDY
)
# A pass of the literal algorithm takes about 13 ms: fewer steps leave room for more settings.
short = replace(flips, dto=DTO(learning_rate=1.0, max_iters=8))
warm = DTO(learning_rate=1.0, max_iters=8, warmup_steps=3)

# The literal algorithm takes a gradient at every optimiser step for so many prompts of a
# setting. For the others it takes one to select, one to optimise and one wherever the hard token
# moves, which changes no outcome (see the last test).
EVERY_STEP = 3

# How many prompts, and the settings.
SETTINGS: dict[str, tuple[int, NablaConfig]] = {
    "published": (64, published),
    "flips": (64, flips),
    "sampled": (8, replace(published, rollout=Sampling(0.6, 0.95))),
    "sampled flips": (8, replace(short, rollout=Sampling(0.8, 0.9, 20))),
    "anchor argmax": (8, replace(short, anchor="argmax")),
    "anchor argmax, sampled": (8, replace(short, rollout=Sampling(1.0), anchor="argmax")),
    "speculate": (12, replace(short, speculate=3)),
    "warm-up": (8, replace(short, dto=warm)),
    "thresholds": (16, replace(short, select=Select(0.98, 1.0, 4.0))),
    "likelihood": (8, replace(short, objective=Objective(nll_coeff=0.3, reward_coeff=0.5))),
    "few rollouts": (12, replace(short, max_rollouts=1)),
    "one reward model": (12, short),
}
ONE_MODEL = "one reward model"


@cache
def literal_models(lm: str, guide: str, judge: str) -> tuple[Models, Any]:
    torch.set_num_threads(1)

    def load(auto: Any, path: str) -> Any:
        return auto.from_pretrained(path).eval().requires_grad_(False)

    model = load(AutoModelForCausalLM, lm)
    readers = [load(AutoModelForSequenceClassification, path) for path in (guide, judge)]
    models = Models(model, readers[0], readers[1], model.generation_config.eos_token_id)
    return models, AutoTokenizer.from_pretrained(lm)


def literal_outcome(
    folders: tuple[str, str, str], config: NablaConfig, prompt: Prompt, every_step: bool
) -> Outcome:
    models, tokenizer = literal_models(*folders)
    literal = Literal(models, config, seed=SEED, max_tokens=MAX_TOKENS, every_step=every_step)
    return literal.run(prompt.id, tokenizer.encode(prompt.text), prompt.sample)


def engines_of(name: str) -> Any:
    return load_engines("embedded", Reward() if name == ONE_MODEL else None)


def run(config: NablaConfig, asked: list[Prompt], engines: Any) -> dict[str, Trace]:
    flows = (nabla(p, config, seed=SEED, max_tokens=MAX_TOKENS) for p in asked)
    return {trace.prompt_id: trace for trace in drive(flows, engines)}


@pytest.fixture(scope="module")
def asked() -> list[Prompt]:
    """Of 256 prompts the 64 whose greedy responses have the fewest uncertain positions, at least
    one. The prompt with the most of them comes first."""
    many = task.prompts(256, seed=0, split="test")
    found = run(replace(flips, proposals="second"), many, engines_of("published"))
    places = {p.id: len(found[p.id].revisions) for p in many}
    uncertain = sorted((p for p in many if places[p.id]), key=lambda p: places[p.id])
    return uncertain[:64][::-1]


@pytest.fixture(scope="module")
def expected(asked: list[Prompt]) -> Iterator[dict[str, list[Future[Outcome]]]]:
    """The literal outcomes of every setting. Two processes compute them in the background."""
    lm, guide, judge = (str(weights.folder(role)) for role in ("lm", "guide", "judge"))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield {
            name: [
                pool.submit(
                    literal_outcome,
                    (lm, judge if name == ONE_MODEL else guide, judge),
                    replace(config, speculate=1),
                    prompt,
                    number < EVERY_STEP,
                )
                for number, prompt in enumerate(asked[:count])
            ]
            for name, (count, config) in SETTINGS.items()
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_product_equals_the_literal_algorithm(
    asked: list[Prompt], expected: dict[str, list[Future[Outcome]]], name: str
):
    count, config = SETTINGS[name]
    assert len(asked) == 64
    found = run(config, asked[:count], engines_of(name))
    passes = sweeps = 0
    for prompt, future in zip(asked[:count], expected[name], strict=True):
        trace, outcome = found[prompt.id], future.result()
        decisions = [(r.position, r.from_token, r.to_token, r.accepted) for r in trace.revisions]
        assert decisions == [
            (d.position, d.from_token, d.to_token, d.accepted) for d in outcome.decisions
        ], prompt
        assert list(trace.tokens) == outcome.tokens, prompt
        assert trace.base_reward == pytest.approx(outcome.base_reward, abs=1e-3)
        assert trace.reward == pytest.approx(outcome.reward, abs=1e-3)
        if config.speculate == 1:
            assert trace.cost.rollouts == outcome.rollouts
        passes += outcome.gradient_passes
        sweeps += trace.cost.rm_backward
    # The same decisions from far fewer gradients.
    assert passes > 2 * sweeps


def test_the_settings_exercise_what_they_are_named_for(
    asked: list[Prompt], expected: dict[str, list[Future[Outcome]]]
):
    outcomes = {name: [f.result() for f in futures] for name, futures in expected.items()}
    for name, found in outcomes.items():
        assert sum(len(o.decisions) for o in found) > 0, name
    accepted = [d.accepted for o in outcomes["flips"] for d in o.decisions]
    assert 0 < sum(accepted) < len(accepted)
    assert len(accepted) > 16

    def differ(name: str, other: str) -> bool:
        pairs = zip(outcomes[name], outcomes[other], strict=False)
        return any(a.decisions != b.decisions for a, b in pairs)

    for name in ("thresholds", "likelihood", ONE_MODEL):
        assert differ(name, "speculate"), name
    assert max(len(o.decisions) for o in outcomes["flips"]) > 1
    assert max(len(o.decisions) for o in outcomes["few rollouts"]) == 1


def test_gradients_taken_only_where_the_hard_token_moves_change_no_outcome(asked: list[Prompt]):
    """The short cut of the literal algorithm that benchmarks compare the product with."""
    models, tokenizer = literal_models(*(str(weights.folder(r)) for r in ("lm", "guide", "judge")))
    for prompt in asked[:3]:
        ids = tokenizer.encode(prompt.text)
        word_for_word, shorter = (
            Literal(models, flips, seed=SEED, max_tokens=MAX_TOKENS, every_step=every).run(
                prompt.id, ids
            )
            for every in (True, False)
        )
        assert (shorter.tokens, shorter.decisions) == (
            word_for_word.tokens,
            word_for_word.decisions,
        )
        assert shorter.gradient_passes < word_for_word.gradient_passes
