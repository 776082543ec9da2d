"""TRL takes the folders untouched, through its own preparation, and the student learns to stop."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from nabla_core.embedded.tokenizer import STOP_ID
from nabla_core.embedded.weights import folder
from tests.pipeline.export.runs import exported, revision, tokens, trace, write_run

PROMPT = list(tokens("1+2=", "length"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four traces that were improved; two are right."""
    rows = [
        trace(
            f"p{n}", f"{n}.", "9.", question="1+2=" if n == 3 else f"4+{n}=", reward=2.0,
            base_reward=1.0, correct=n % 2 == 1, revisions=[revision("9.", f"{n}.", (1.0, 2.0))],
        )
        for n in (3, 4, 5, 6)
    ]  # fmt: skip
    return write_run(tmp_path_factory.mktemp("runs") / "run", rows)


@pytest.fixture(scope="module")
def models():
    return AutoModelForCausalLM.from_pretrained(folder("lm")), AutoTokenizer.from_pretrained(
        folder("lm")
    )


def prepared(trainer_class, config_class, models, out, tmp_path, **settings):
    """The trainer of three steps; its rows are as TRL prepares them for the embedded LM."""
    config = config_class(
        output_dir=str(tmp_path / "trained"), report_to=[], use_cpu=True, bf16=False, max_steps=3,
        disable_tqdm=True, logging_steps=1, **settings,
    )  # fmt: skip
    model, tokenizer = models
    return trainer_class(
        model,
        args=config,
        train_dataset=load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache")),
        processing_class=tokenizer,
    )


def trains(trainer, settings):
    """Three steps change the weights and leave the config as it was."""
    model = trainer.model
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    assert trainer.train().global_step == 3
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    assert any(not torch.equal(before[name], w) for name, w in model.named_parameters())
    shape = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "eos_token_id")
    assert {k: getattr(model.config, k) for k in shape} == {k: settings[k] for k in shape}


def shape_of(kind):
    """What the config file of an embedded model says."""
    return json.loads((Path(folder(kind)) / "config.json").read_text())


@pytest.mark.parametrize(
    ("export", "settings"),
    [
        ({"layout": "prompt_completion"}, {}),
        ({"layout": "messages"}, {"assistant_only_loss": True}),
        ({"layout": "text"}, {}),
        ({"format": "tokens"}, {}),
    ],
    ids=["prompt_completion", "messages", "text", "tokens"],
)
def test_sft_trains_on_the_response_up_to_the_stop_token(run, models, tmp_path, export, settings):
    exported(tmp_path / "out", run, **export)
    trainer = prepared(SFTTrainer, SFTConfig, models, tmp_path / "out", tmp_path, **settings)
    rows = list(trainer.train_dataset)
    assert len(rows) == 4
    (of_first,) = (row for row in rows if row["input_ids"][:4] == PROMPT)
    assert of_first["input_ids"] == [*PROMPT, *tokens("3.")]
    for row in rows:
        assert row["labels"][:4] == [-100] * 4
        assert row["labels"][4:] == row["input_ids"][4:]
        assert row["labels"][-1] == STOP_ID
    trains(trainer, shape_of("lm"))


def test_preferences_end_in_the_stop_token_on_both_sides(run, models, tmp_path):
    exported(tmp_path / "out", run, format="preference")
    trainer = prepared(DPOTrainer, DPOConfig, models, tmp_path / "out", tmp_path)
    rows = list(trainer.train_dataset)
    assert len(rows) == 4
    assert [row["chosen_ids"] for row in rows][:1] == [[*tokens("3.")]]
    assert all(row["rejected_ids"] == [*tokens("9.")] for row in rows)
    trains(trainer, shape_of("lm"))


def test_kto_completions_end_in_the_stop_token(run, models, tmp_path):
    exported(tmp_path / "out", run, format="kto")
    trainer = prepared(
        KTOTrainer, KTOConfig, models, tmp_path / "out", tmp_path, per_device_train_batch_size=4
    )
    rows = list(trainer.train_dataset)
    assert sorted(row["label"] for row in rows) == [False, False, True, True]
    assert all(row["completion_ids"][-1] == STOP_ID for row in rows)
    trains(trainer, shape_of("lm"))


@pytest.mark.parametrize("start", ["judge", "lm"])
def test_a_reward_model_is_trained_on_right_and_wrong_responses(tmp_path, start):
    """From the embedded judge, and from the LM with a new output layer."""
    rows = [
        trace(f"p{n}", f"{n}.", "9.", question=f"4+{n}=", reward=2.0, base_reward=1.0)
        for n in (3, 4, 5, 6)
    ]
    exported(tmp_path / "out", write_run(tmp_path / "run", rows), format="reward")
    tokenizer = AutoTokenizer.from_pretrained(folder("lm"))
    model = AutoModelForSequenceClassification.from_pretrained(folder(start), num_labels=1)
    trainer = prepared(RewardTrainer, RewardConfig, (model, tokenizer), tmp_path / "out", tmp_path)
    rows = list(trainer.train_dataset)
    assert [row["chosen_ids"] for row in rows] == [[*tokens(f"4+{n}={n}.")] for n in (3, 4, 5, 6)]
    assert [row["rejected_ids"] for row in rows] == [[*tokens(f"4+{n}=9.")] for n in (3, 4, 5, 6)]
    trains(trainer, shape_of(start))
    assert trainer.model.config.num_labels == 1
