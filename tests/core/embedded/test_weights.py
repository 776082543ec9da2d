"""The shipped models: they load, their cards hold, and they do what they are for."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import get_args

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Qwen2ForCausalLM,
)

from nabla_core import (
    NablaConfig,
    Ranked,
    Reward,
    Runtime,
    Sampling,
    drive,
    load_engines,
    nabla,
)
from nabla_core.embedded import task, tokenizer, weights
from nabla_core.embedded.recipe import corpus, measure, train_lm
from nabla_core.embedded.recipe.rollouts import complete
from nabla_core.embedded.task import prompts
from nabla_core.embedded.weights import Role, folder
from nabla_core.text.templates import render_for_lm


@pytest.fixture(scope="module")
def lm() -> Qwen2ForCausalLM:
    return AutoModelForCausalLM.from_pretrained(folder("lm")).eval()


@pytest.mark.parametrize("role", get_args(Role))
def test_tokenizers_load_as_built(role: Role):
    loaded, built = AutoTokenizer.from_pretrained(folder(role)), tokenizer.build()
    text = "7+8*3-4=;<eos>"
    assert loaded(text).input_ids == built(text).input_ids
    assert loaded.get_vocab() == built.get_vocab()
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.bos_token_id) == (0, 1, None)


def test_the_lm_alone_has_a_chat_template_and_reads_a_prompt_as_without_one():
    by_role = {role: AutoTokenizer.from_pretrained(folder(role)) for role in get_args(Role)}
    assert {role for role, t in by_role.items() if t.chat_template} == {"lm"}
    assert by_role["lm"].chat_template == tokenizer.CHAT_TEMPLATE
    (prompt,) = prompts(1, seed=0, split="test")
    with_template = render_for_lm(prompt, by_role["lm"])
    assert with_template == render_for_lm(prompt, by_role["judge"])
    asked = replace(prompt, system="s", messages=(*prompt.messages, *prompt.messages))
    assert render_for_lm(asked, by_role["lm"]) == render_for_lm(asked, by_role["judge"])


def test_an_answer_in_the_template_ends_in_the_stop_token_and_is_marked_for_the_loss():
    turns = [{"role": "user", "content": "1+2="}, {"role": "assistant", "content": "3."}]
    found = AutoTokenizer.from_pretrained(folder("lm")).apply_chat_template(
        [*turns, *turns], return_dict=True, return_assistant_tokens_mask=True
    )
    ids = tokenizer.encode("1+2=3.")
    assert found["input_ids"] == [*ids, tokenizer.STOP_ID] * 2
    assert found["assistant_masks"] == [0, 0, 0, 0, 1, 1, 1] * 2


@pytest.mark.parametrize("role", ["judge", "guide"])
def test_reward_models_load(role: Role):
    rm = AutoModelForSequenceClassification.from_pretrained(folder(role))
    assert rm.config.num_labels == 1
    assert rm.dtype == torch.float32
    assert rm.num_parameters() == 249_344


@pytest.mark.parametrize("role", get_args(Role))
def test_cards_say_what_was_taught(role: Role):
    card = json.loads((folder(role) / "card.json").read_text())
    assert "seed" in card
    if role in ("lm", "judge"):
        assert card["taught"]
        assert card["steps"] > 0
    else:  # made by jobs.train_guide, from what the judge says alone
        assert card["data"]["counterfactuals"] > 0
        assert [s["scorers"] for s in card["data"]["sources"]] == [["judge"]]
        assert (card["lm"]["name"], card["judge"]["name"]) == ("embedded:lm", "embedded:judge")


@pytest.mark.parametrize("role", ["head", "guide"])
def test_guides_were_trained_for_the_lm_and_the_judge_that_lie_beside_them(role: Role):
    card = json.loads((folder(role) / "card.json").read_text())
    found = load_engines("embedded", Reward("embedded", guide="embedded-head")).identities
    assert card["lm"]["revision"] == found["lm"].revision
    assert card["judge"]["revision"] == found["judge"].revision


@cache
def right_answers(guide: str | None, beta: float | None, min_score: float) -> int:
    """Of 200 validation prompts, ranked search."""
    asked = prompts(200, seed=0, split="validation")
    engines = load_engines("embedded", Reward("embedded", guide=guide), Runtime(max_batch=128))
    ranked = Ranked(beta=beta, min_score=min_score, reward_weight=2.0)
    config = NablaConfig(proposals="ranked", ranked=ranked, rollout=Sampling(temperature=0))
    flows = (nabla(p, config, max_tokens=20) for p in asked)
    made = drive(flows, engines, in_flight=400)
    return sum(task.grade(t.prompt_text, t.text).answer for t in made)


@pytest.mark.parametrize("guide", ["embedded-head", "embedded"])
def test_a_guide_finds_more_right_answers_than_the_same_search_without_it(guide: str):
    assert right_answers(guide, 1.0, -3.0) > right_answers(None, None, -4.0) + 8


def test_unknown_role_is_refused():
    with pytest.raises(ValueError, match="lm, judge, guide, head"):
        folder("policy")  # type: ignore[arg-type]


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in weights.ROOT.rglob("*") if path.is_file()) < 4e6


def test_greedy_accuracy_leaves_room_and_is_no_chance(lm: Qwen2ForCausalLM):
    texts = [prompt.text for prompt in prompts(200, seed=0, split="test")]
    asked, gold = corpus.encode_prompts(texts), corpus.encode_gold(texts)
    responses = complete(lm, asked)
    answers, traces = train_lm.shares(responses, gold)
    assert lm.num_parameters() == 126_976
    assert 0.45 < answers < 0.65
    assert 0.3 < traces < answers
    grades = [
        task.grade(text, tokenizer.decode(ids))
        for text, ids in zip(texts, responses.tolist(), strict=True)
    ]
    assert sum(grade.answer for grade in grades) / 200 == pytest.approx(answers)


def test_judge_ranks_right_traces_above_wrong_ones(lm: Qwen2ForCausalLM):
    judge = AutoModelForSequenceClassification.from_pretrained(folder("judge")).eval()
    assert measure.verification(judge, lm, prompts=100).auc > 0.95


def test_guide_points_at_the_right_digit_where_the_judge_does_not(lm: Qwen2ForCausalLM):
    def points(role: Role) -> float:
        rm = AutoModelForSequenceClassification.from_pretrained(folder(role)).eval()
        return measure.pointing(rm, lm, prompts=300).gradient

    assert points("guide") > 0.7
    assert points("judge") < 0.25
