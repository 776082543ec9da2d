"""TRL takes the folders untouched, through its own preparation, and the student learns to stop."""

from __future__ import annotations

import pytest
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

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
    """The training rows as TRL prepares them for the embedded LM."""
    config = config_class(
        output_dir=str(tmp_path / "trained"), report_to=[], use_cpu=True, bf16=False, **settings
    )
    model, tokenizer = models
    return trainer_class(
        model,
        args=config,
        train_dataset=load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache")),
        processing_class=tokenizer,
    )


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
    trainer.args.max_steps = 1
    assert trainer.train().training_loss > 0


def test_preferences_end_in_the_stop_token_on_both_sides(run, models, tmp_path):
    exported(tmp_path / "out", run, format="preference")
    trainer = prepared(DPOTrainer, DPOConfig, models, tmp_path / "out", tmp_path)
    rows = list(trainer.train_dataset)
    assert len(rows) == 4
    assert [row["chosen_ids"] for row in rows][:1] == [[*tokens("3.")]]
    assert all(row["rejected_ids"] == [*tokens("9.")] for row in rows)


def test_kto_completions_end_in_the_stop_token(run, models, tmp_path):
    exported(tmp_path / "out", run, format="kto")
    trainer = prepared(
        KTOTrainer, KTOConfig, models, tmp_path / "out", tmp_path, per_device_train_batch_size=4
    )
    rows = list(trainer.train_dataset)
    assert sorted(row["label"] for row in rows) == [False, False, True, True]
    assert all(row["completion_ids"][-1] == STOP_ID for row in rows)
