"""Losses and measurements of the recipe, and that it is repeatable."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
)

from nabla_core.embedded import tokenizer
from nabla_core.embedded.recipe import (
    corpus,
    cost,
    measure,
    models,
    train_guide,
    train_judge,
    train_lm,
)
from nabla_core.embedded.weights import folder
from pipeline.training.cost import cost_of


def test_alignment_loss_weighs_wrong_steps_and_skips_what_is_no_digit():
    guide = models.new_rm(models.new_lm())
    asked = corpus.encode_prompts(["7+8*3-4+1-2*6+5-9"])
    given = corpus.encode_gold(["7+8*3-4+1-2*6+5-9"])
    given[0, 0] = tokenizer.IDS["4"]
    # The zero output layers make every gradient 0: the loss is log 10 whatever the weights.
    torch.nn.init.zeros_(guide.score.weight)
    loss = train_guide.alignment_loss(guide, asked, given)
    assert loss.item() == pytest.approx(math.log(10), abs=1e-6)
    given[0, 2:] = tokenizer.PAD_ID
    assert train_guide.alignment_loss(guide, asked, given).item() == pytest.approx(math.log(10))


def test_mirror_loss_adds_to_the_prior_and_skips_what_has_no_right_token():
    guide = models.new_rm(models.new_lm())
    torch.nn.init.zeros_(guide.score.weight)
    asked = corpus.encode_prompts(["7+8*3-4+1-2*6+5-9"])
    given = corpus.encode_gold(["7+8*3-4+1-2*6+5-9"])
    # The gradient is 0 everywhere, so the loss is the prior's own at the right tokens.
    prior = torch.full((1, 16, tokenizer.VOCABULARY), math.log(0.02))
    prior.scatter_(2, given[..., None], math.log(0.54))
    loss = train_guide.mirror_loss(guide, prior, asked, given)
    assert loss.item() == pytest.approx(-math.log(0.54), abs=1e-6)
    given[0, 6:] = tokenizer.PAD_ID
    prior[0, 6:] = 0.0
    assert train_guide.mirror_loss(guide, prior, asked, given).item() == pytest.approx(
        -math.log(0.54), abs=1e-6
    )


def test_score_reads_the_last_real_token_of_each_row():
    torch.manual_seed(0)
    rm = models.new_rm(models.new_lm()).eval()
    torch.nn.init.normal_(rm.model.layers[-1].mlp.down_proj.weight, std=0.5)
    rows = [tokenizer.encode("7+8*3"), tokenizer.encode("7+8*3-4+1")]
    padded = torch.tensor([rows[0] + [tokenizer.PAD_ID] * 4, rows[1]])
    alone = [rm(input_ids=torch.tensor([row])).logits.item() for row in rows]
    assert models.rewards(rm, padded).tolist() == pytest.approx(alone, abs=1e-5)
    assert alone[0] != pytest.approx(alone[1], abs=1e-3)


def test_reward_gradient_is_the_slope_along_a_one_hot():
    rm = AutoModelForSequenceClassification.from_pretrained(folder("judge")).eval()
    asked = corpus.encode_prompts(["7+8*3-4+1-2*6+5-9"])
    given = corpus.encode_gold(["7+8*3-4+1-2*6+5-9"])
    ids = torch.cat((asked, given), 1)
    gradient = measure.reward_gradient(rm, asked, given, create_graph=False)
    table = rm.model.embed_tokens.weight.detach()

    def moved(step: float) -> float:
        embedded = table[ids].clone()
        embedded[0, corpus.PROMPT_LENGTH + 4] += step * table[tokenizer.IDS["9"]]
        return models.rewards_of_embeddings(rm, embedded, ids).item()

    slope = (moved(0.005) - moved(-0.005)) / 0.01
    assert gradient[0, 4, tokenizer.IDS["9"]].item() == pytest.approx(slope, rel=0.02)


def test_area_under_curve_counts_ties_half():
    positive = torch.tensor([True, True, False, False])
    assert measure.area_under_curve(torch.tensor([3.0, 1.0, 2.0, 1.0]), positive) == 0.625


def test_training_repeats_itself_for_one_seed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train_judge, "SAMPLES", 64)

    def made(seed: int) -> list[torch.Tensor]:
        silent = str.strip
        lm = train_lm.train_converged(seed=seed, steps=4, device="cpu", log=silent)
        flawed = train_lm.train_flawed(lm, seed=seed, steps=2, device="cpu", log=silent)
        judge = train_judge.train(flawed, lm, seed=seed, steps=2, device="cpu", log=silent)
        aligned = train_guide.align(flawed, judge, seed=seed, steps=2, device="cpu", log=silent)
        guide = train_guide.calibrate(flawed, aligned, seed=seed, steps=2, device="cpu", log=silent)
        made = (lm, flawed, judge, aligned, guide)
        return [tensor for model in made for tensor in model.state_dict().values()]

    first, again, other = made(0), made(0), made(1)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_the_shipped_cards_hold_what_the_recipe_costs():
    for role in cost.STAGES:
        card = json.loads((folder(role) / "card.json").read_text())
        assert card["cost"] == cost.training_cost(role, 60.0 * card["minutes"])
        assert cost_of(card).flops > 1e11
        assert cost.with_cost(card) == card
    judge = cost_of({"cost": cost.training_cost("judge", 0.0)})
    # Half of its layers are frozen: no gradient runs through them.
    assert judge.steps < 3 * 6300 * 128 * 33 * 2 * 6 * 64 * (4 * 64 + 3 * 128)
    assert judge.samples > 0
    with pytest.raises(ValueError, match="gold"):
        cost.training_cost("gold", 0.0)
